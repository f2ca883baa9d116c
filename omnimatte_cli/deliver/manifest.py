"""manifest.json: what was run, on what, and what came out."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omnimatte_cli.arrays import Masks, Plate
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.deliver.source import describe_input
from omnimatte_cli.matte.metrics import PSNR
from omnimatte_cli.media.atomic import write_json
from omnimatte_cli.media.codecs import Audio
from omnimatte_cli.media.digest import sha256_of_path
from omnimatte_cli.media.read import VideoInfo
from omnimatte_cli.methods.base import Separation
from omnimatte_cli.methods.registry import Choice
from omnimatte_cli.options import plain
from omnimatte_cli.settings import Settings
from omnimatte_cli.shot import Shot
from omnimatte_cli.versions import library_versions

SCHEMA = 2  # of the manifest; raised when a field changes its meaning or place


def describe_masks(masks: Masks, given: Path | None) -> dict[str, Any]:
    """Objects and their order, back to front: one list if it is the same in all frames.

    given: where the masks came from; None where they were made, and lie in the result.
    """
    orders = [[masks.names[i] for i in row] for row in masks.order.tolist()]
    fixed = all(row == orders[0] for row in orders)
    return {
        "names": list(masks.names),
        "order": orders[0] if fixed else orders,
        "order_from": masks.order_source,
        "masks": str(given.absolute()) if given else None,
        "sha256": masks.sha256,
        "notes": list(masks.notes),
    }


def describe_plate(plate: Plate, given: Path | None) -> dict[str, Any]:
    """Where the plate came from and which share of it no frame shows."""
    estimate = "masked median" if plate.moving is None else "a plate of every frame"
    facts: dict[str, Any] = {"from": str(given) if given else estimate}
    if given is not None and given.exists():
        facts["sha256"] = sha256_of_path(given)
    facts["unseen_share"] = round(plate.unseen_share, 6)
    facts["one_per_frame"] = plate.moving is not None
    facts["unseen_picture"] = None if plate.valid.all() else "background_unseen.png"
    return facts


def describe_camera(camera: Camera | None) -> dict[str, Any]:
    """Whether the camera moves, and what is doubtful about it."""
    if camera is None:
        return {"kind": "unknown", "shift_px": 0.0, "cuts": [], "doubts": []}
    return {
        "kind": camera.kind,
        "shift_px": round(camera.shift, 2),
        "cuts": list(camera.cuts),
        "doubts": list(camera.doubts),
    }


def describe_options(settings: Settings, choice: Choice) -> dict[str, Any]:
    """All options in force, defaults too."""
    options: dict[str, Any] = plain(settings)
    if settings.size is not None:
        height, width = settings.size
        options["size"] = f"{width}x{height}"
    options["set"] = plain(choice.options) | plain(choice.solve)
    del options["assignments"]
    return options


def describe_run(
    settings: Settings,
    choice: Choice,
    info: VideoInfo,
    shot: Shot,
    plate: Plate,
    separation: Separation,
    scores: Mapping[str, PSNR],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """The manifest of a run, but for the device. scores: PSNRs in dB of what was written."""
    height, width = shot.size
    found = dict(separation.facts)
    psnr = found.pop("psnr", {})
    return {
        "schema": SCHEMA,
        "versions": library_versions(),
        "input": describe_input(info),
        "objects": describe_masks(shot.masks, settings.masks),
        "background": describe_plate(plate, settings.background),
        "options": describe_options(settings, choice),
        "seed": settings.seed,
        "working_size": f"{width}x{height}",
        "method": choice.name,
        **found,
        "psnr": psnr | {name: score.value for name, score in scores.items()},
        "seconds": seconds,
        "peak_memory_mb": peak_memory_mb(),
    }


def describe_shots(
    info: VideoInfo,
    settings: Settings,
    choice: Choice,
    done: Sequence[dict[str, Any]],
    left_out: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """The manifest of a video that was split at its cuts.

    done: "folder", "frames" (first and last) and "manifest" of each shot; left_out: the first two,
    and why. Figures are the lowest PSNR of any shot, and the seconds of all.
    """
    each = [shot["manifest"] for shot in done]
    shots = [
        {
            "folder": shot["folder"],
            "frames": shot["frames"],
            "objects": shot["manifest"]["objects"]["names"],
            "psnr": shot["manifest"]["psnr"],
        }
        for shot in done
    ]
    names = list(dict.fromkeys(n for shot in shots for n in shot["objects"]))
    psnr: dict[str, float | None] = {}
    for key in each[0]["psnr"]:
        values = [m["psnr"].get(key) for m in each]
        psnr[key] = min((v for v in values if v is not None), default=None)
    seconds: dict[str, float] = {}
    for manifest in each:
        for stage, value in manifest["seconds"].items():
            seconds[stage] = round(seconds.get(stage, 0.0) + value, 2)
    return {
        "schema": SCHEMA,
        "versions": library_versions(),
        "input": describe_input(info),
        "shots": sorted([*shots, *left_out], key=lambda shot: shot["folder"]),
        "objects": {"names": names},
        "options": describe_options(settings, choice),
        "seed": settings.seed,
        "method": choice.name,
        "psnr": psnr,
        "seconds": seconds,
        "peak_memory_mb": peak_memory_mb(),
        "device": each[0]["device"],
    }


def peak_memory_mb() -> float | None:
    """The largest resident memory of this process so far, in MB; None where it is not known."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def describe_part(part: range, scores: Mapping[str, PSNR], audio: Audio | None) -> dict[str, Any]:
    """What joining the parts of a shot needs. audio: of the whole shot."""
    return {
        "first": part.start,
        "stop": part.stop,
        "scores": {name: [score.error, score.count] for name, score in scores.items()},
        "audio": None if audio is None else [audio.codec, audio.start, audio.duration],
    }


def write_manifest(path: Path, facts: dict[str, Any]) -> None:
    """Write the manifest, readable and without NaN."""
    write_json(path, facts, indent=2)

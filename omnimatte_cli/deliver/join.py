"""Put the parts of one shot together: the result that one run would have written.

Each part was made by a run that looked at the whole shot and wrote some of its frames, so that
images are taken as they are. Videos are put one after the other without being encoded anew.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omnimatte_cli.deliver.finish import finish_result
from omnimatte_cli.deliver.manifest import write_manifest
from omnimatte_cli.errors import OmnimatteError, OutputError, ResultError
from omnimatte_cli.matte.metrics import PSNR
from omnimatte_cli.media.codecs import CODECS, Audio, join_command
from omnimatte_cli.media.encode import size_and_count
from omnimatte_cli.media.ffmpeg import Feeding, try_ffmpeg
from omnimatte_cli.media.folder import output_folder
from omnimatte_cli.media.listing import files_in, read_list
from omnimatte_cli.progress import Progress

VIDEOS = frozenset((".mp4", ".mov", ".webm"))
MANIFEST = "manifest.json"
# What a run measures of itself; all else must be the same in all parts.
OWN = ("part", "psnr", "seconds", "peak_memory_mb", "device", "losses")


def join_parts(
    parts: Sequence[Path],
    out: Path,
    progress: Progress,
    overwrite: bool = False,
    ffmpeg: Path | None = None,
) -> dict[str, Any]:
    """Write the result of a shot whose parts are in folders, and return its manifest.

    What is made from a finished result, its report among it, is made as well. Raises ResultError
    where a part is missing, or is of another run.
    """
    program = try_ffmpeg(ffmpeg)
    found = sorted(((_read(p), p) for p in parts), key=lambda pair: pair[0]["part"]["first"])
    _check(found)
    for _, folder in found:
        _check_files(folder)
    folders = [folder for _, folder in found]
    with output_folder(out, overwrite, folders, progress.say) as folder:
        names: dict[str, list[Path]] = {}
        for part in folders:
            for name in files_in(part):
                if name != MANIFEST and not name.endswith("/"):
                    names.setdefault(name, []).append(part / name)
        progress.stage("joining", len(names))
        for done, (name, files) in enumerate(sorted(names.items()), start=1):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if len(files) > 1 and target.suffix in VIDEOS:
                audio = _audio(found[0][0]) if name == "composite.mp4" else None
                _join_videos(files, target, program, audio)
            else:
                _take(files[0], target)
            progress.step(done)
        facts = _together([facts for facts, _ in found])
        write_manifest(folder / MANIFEST, facts)
    options = facts["options"]
    finish_result(out, options.get("formats") or (), bool(options.get("report")), progress)
    return facts


def _read(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        part = facts["part"]
        first, stop = int(part["first"]), int(part["stop"])
        if not 0 <= first < stop <= int(facts["input"]["frames"]):
            raise ValueError("frames that cannot be")
    except OSError as error:
        raise ResultError(f"{folder} holds no part of a shot: it has no {MANIFEST}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ResultError(
            f"{folder} holds no part of a shot: make it with `omnimatte decompose --part`."
        ) from error
    return facts


def _check_files(folder: Path) -> None:
    """Whether all is there that a part's run has written."""
    there = set(files_in(folder))
    listed = read_list(folder) or ()
    gone = sorted(name for name in listed if name not in there and not name.endswith("/"))
    if gone:
        raise ResultError(
            f"{folder} lacks {gone[0]}{f' and {len(gone) - 1} more' * (len(gone) > 1)}, which its "
            "run has written: make the part again."
        )


def _check(found: Sequence[tuple[dict[str, Any], Path]]) -> None:
    """Whether parts are of one run, and all of it."""
    (first, folder), at = found[0], 0
    for facts, place in found:
        part = facts["part"]
        if part["first"] > at:
            raise ResultError(f"The part with frames {at} to {part['first'] - 1} is missing.")
        if part["first"] < at:
            raise ResultError(f"{place} holds frames from {part['first']} on, which another has.")
        at = part["stop"]
        for key in first.keys() | facts.keys():
            if key not in OWN and _shared(first, key) != _shared(facts, key):
                raise ResultError(
                    f"{folder} and {place} are not parts of one run: they differ in {key}."
                )
    frames = first["input"]["frames"]
    if at < frames:
        raise ResultError(f"The part with frames {at} to {frames - 1} is missing.")


def _shared(facts: dict[str, Any], key: str) -> Any:
    value = facts.get(key)
    ours = ("part", "overwrite", "ffmpeg", "device")  # options without effect on a frame
    if key == "options" and isinstance(value, dict):
        return {name: v for name, v in value.items() if name not in ours}
    return value


def _together(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The manifest of all parts: scores over all frames, the sum of the times, the largest peak."""
    facts = {key: value for key, value in parts[0].items() if key != "part"}
    facts["options"] = {**facts["options"], "part": None}
    scores: dict[str, PSNR] = {}
    seconds: dict[str, float] = {}
    for part in parts:
        for name, (error, count) in part["part"]["scores"].items():
            score = scores.setdefault(name, PSNR())
            score.error, score.count = score.error + error, score.count + count
        for stage, spent in part["seconds"].items():
            seconds[stage] = round(seconds.get(stage, 0.0) + spent, 2)
    facts["psnr"] = {**facts["psnr"], **{name: score.value for name, score in scores.items()}}
    facts["seconds"] = seconds
    facts["peak_memory_mb"] = max((p["peak_memory_mb"] or 0 for p in parts), default=0) or None
    facts["parts"] = len(parts)
    return facts


def _audio(facts: dict[str, Any]) -> Audio | None:
    """The shot's sound, where it had some that is wanted and still there."""
    sound, source = facts["part"]["audio"], Path(facts["input"]["source"])
    return Audio(source, *sound) if sound and source.is_file() else None


def _take(source: Path, target: Path) -> None:
    """The same file under another name, or else a copy."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise OutputError(f"{target} cannot be written: {error.strerror}.") from error


def _join_videos(files: Sequence[Path], target: Path, program: str, audio: Audio | None) -> None:
    names = [str(file.resolve()).replace("'", "'\\''") for file in files]
    listing = target.with_name(f".{target.name}.parts")
    listing.write_text("".join(f"file 'file:{name}'\n" for name in names), encoding="utf-8")
    codec = next(c for c in CODECS.values() if c.suffix == target.suffix)
    process = Feeding(join_command(program, listing, target, codec, audio), target)
    try:
        if process.finish() != 0:
            raise OmnimatteError(f"ffmpeg could not join {target}: {process.reason()}.")
    finally:
        process.kill()
        listing.unlink()
    expected = sum(size_and_count(file)[1] for file in files)
    count = size_and_count(target)[1]
    if count != expected:
        raise OmnimatteError(f"{target} holds {count} frames, its parts {expected}.")

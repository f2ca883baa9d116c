"""Rendered scenes as folders in the layout of the authors' synthetic data, with the true layers.

Per scene: `rgba_00000.jpg` the frames, `mask{i}_00000.png` the visible objects, `bg.png` the true
plate (and `bg_128.png`, the same, at 128x128), `bg_est.png` the masked median of the frames,
`order.txt` a line per frame, back to front, `gt/mask{i}_00000.png` each object with its effects,
`solo/solo{i}_00000.png` each object with its effects over the true plate, `meta.json`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import torch

from omnimatte_cli.arrays import integers
from omnimatte_cli.errors import OutputError
from omnimatte_cli.matte.metrics import REGION_THRESHOLD, effect_region
from omnimatte_cli.media.atomic import write_json
from omnimatte_cli.progress import Progress, Silent
from omnimatte_cli.synth.augment import masked_median
from omnimatte_cli.synth.render import render_scenes
from omnimatte_cli.synth.scenes import SceneOptions, plan_scene

JPEG_QUALITY = 95
FPS = 12.0  # frames per second of the written clips


def _save(path: Path, picture: np.ndarray, *options: int) -> None:
    """Write RGB or grey uint8; OpenCV reports failures by its return value only."""
    if picture.ndim == 3:
        picture = np.ascontiguousarray(picture[..., ::-1])
    if not cv2.imwrite(str(path), picture, list(options)):
        raise OSError(f"could not write {path}")


def _pictures(x: torch.Tensor) -> np.ndarray:
    """(..., 3, H, W) float to (..., H, W, 3) uint8."""
    return integers(np.moveaxis(x.cpu().numpy(), -3, -1))


def write_scene(
    folder: Path, seed: int, options: SceneOptions, device: torch.device | str = "cpu"
) -> bool:
    """Render the scene of a seed into `folder`; False if it is there already.

    The folder appears under its name only when it is whole. Raises OutputError if it holds another
    scene or something else.
    """
    folder = Path(folder)
    if folder.exists():
        check_scene(folder, asked_for(seed, options))
        return False
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for name in ("gt", "solo"):
            (part / name).mkdir(parents=True)
        _write(part, seed, options, device)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return True


def asked_for(seed: int, options: SceneOptions) -> dict[str, object]:
    """What a scene follows from, as JSON values."""
    return {
        "seed": seed,
        "objects": options.max_objects,
        "frames": options.frames,
        "size": [options.height, options.width],
        "asked_effect": options.effect,
        "textures": None if options.textures is None else str(options.textures.resolve()),
    }


def check_scene(folder: Path, asked: dict[str, object]) -> None:
    """Raise OutputError unless the folder holds the scene that is asked for."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        others = [f"{k} {meta.get(k)}, not {v}" for k, v in asked.items() if meta.get(k) != v]
    except (OSError, ValueError, AttributeError):
        raise OutputError(f"{folder} is there and is no scene; give another --out.") from None
    if others:
        raise OutputError(f"{folder} holds another scene ({others[0]}); give another --out.")


def _write(folder: Path, seed: int, options: SceneOptions, device: torch.device | str) -> None:
    batch = render_scenes([seed], options, device)
    assert batch.solos is not None
    frames, plate, solos = (_pictures(x[0]) for x in (batch.frames, batch.plate, batch.solos))
    masks = batch.masks[0, :, :, 0].cpu().numpy() > 0.5
    order = batch.order[0].cpu().numpy()
    read = np.empty_like(frames)
    for t, frame in enumerate(frames):
        path = folder / f"rgba_{t:05d}.jpg"
        _save(path, frame, cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
        written = cv2.imread(str(path))
        assert written is not None, path
        read[t] = written[..., ::-1]
    for i in range(len(masks)):
        for t in range(options.frames):
            name = f"{i}_{t:05d}.png"
            region = effect_region(solos[i, t], plate)
            _save(folder / f"mask{name}", masks[i, t].astype(np.uint8) * 255)
            _save(folder / "gt" / f"mask{name}", region.astype(np.uint8) * 255)
            _save(folder / "solo" / f"solo{name}", solos[i, t])
    estimate = masked_median(
        torch.from_numpy(read).permute(0, 3, 1, 2)[None].float(),
        torch.from_numpy(masks.any(0))[None, :, None],
    )[0]
    estimate8 = estimate.round().permute(1, 2, 0).numpy().astype(np.uint8)
    _save(folder / "bg.png", plate)
    if plate.shape[:2] == (128, 128):
        _save(folder / "bg_128.png", plate)
    _save(folder / "bg_est.png", estimate8)
    lines = (" ".join(str(i) for i in row) for row in order)
    (folder / "order.txt").write_text("".join(f"{line}\n" for line in lines))
    error = estimate8.astype(np.float32) - plate
    meta = {
        **asked_for(seed, options),
        "effect": plan_scene(seed, options).effect,
        "fps": options.fps / options.gap,
        "beta": REGION_THRESHOLD,
        "bg_est_rmse": round(float(np.sqrt(np.square(error).mean())), 4),
    }
    write_json(folder / "meta.json", meta)


def write_dataset(
    out: Path,
    count: int,
    objects: int = 2,
    effect: str = "mixed",
    size: int | tuple[int, int] = 128,
    frames: int = 24,
    seed: int = 0,
    progress: Progress | None = None,
    device: torch.device | str = "cpu",
    textures: Path | None = None,
) -> list[Path]:
    """Scenes `0000/`, `0001/`, ... with `objects` objects each, of seeds `seed`, `seed + 1`, ...

    size: pixels of a square's side, or (height, width). Scenes that are there are left alone, so
    an interrupted run goes on where it was. Returns the folders. Raises OutputError if another
    scene is in one's place.
    """
    progress = progress or Silent()
    height, width = (size, size) if isinstance(size, int) else size
    options = SceneOptions(
        frames=frames, gap=1, fps=FPS, height=height, width=width, min_objects=objects,
        max_objects=objects, effect=effect, supersample=2, textures=textures,
    )  # fmt: skip
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    progress.stage("rendering scenes", count)
    folders = [out / f"{index:04d}" for index in range(count)]
    for index, folder in enumerate(folders):
        write_scene(folder, seed + index, options, device)
        progress.step(index + 1)
    return folders

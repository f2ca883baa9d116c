"""Read a finished result: layers, plates, order and camera, by its manifest.

Compose, convert and the report start from here. It stands in `deliver`, beside the manifest and the
writers whose files it reads, so that a run can make its report without importing `compose`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from omnimatte_cli.arrays import Masks, Size
from omnimatte_cli.deliver.formats import LAYER_FOLDERS
from omnimatte_cli.deliver.source import read_input
from omnimatte_cli.deliver.writer import PLATE, Delivery, FrameOutput, delivery_of, free_name
from omnimatte_cli.errors import ResultError
from omnimatte_cli.masks.load import load_masks
from omnimatte_cli.matte.compositing import grey, lay_over, transmittance
from omnimatte_cli.media.images import list_images, quiet_opencv, read_image
from omnimatte_cli.media.read import VideoInfo, iter_frames, sha256_of_input
from omnimatte_cli.media.sound import Audio

MASKS = "masks"  # in a result whose masks the tool made
PASSES = "passes"  # <result>/passes/<object>/<pass>/00000.png
READABLE = ("png16", "png")  # the deeper first
BODY = "body"  # the pass that holds the object itself
PASS_ORDER = ("shadow", "reflection", BODY)  # back to front; their `over` is the whole layer
RESIDUAL, CLEAN = "background", "plate"  # folders of plates of every frame


@dataclass(frozen=True)
class FinishedResult:
    """A folder that `omnimatte decompose` wrote.

    input: the video that was decomposed; it may be gone. order: indices into `names`, back to
    front, for each frame.
    homographies: (T, 3, 3) float64, frame to canvas pixels, or None before a static camera.
    """

    folder: Path
    manifest: dict[str, Any]
    names: tuple[str, ...]
    input: VideoInfo
    order: tuple[tuple[int, ...], ...]
    homographies: np.ndarray | None

    @property
    def size(self) -> Size:
        """(H, W) of the layers."""
        return self.input.size

    @property
    def frames(self) -> int:
        return self.input.frames

    @property
    def source(self) -> Path:
        """The video that was decomposed; it may be gone."""
        return self.input.source

    @property
    def first_number(self) -> int:
        """The number of the first frame in file names."""
        return self.input.first_number

    @property
    def mask_folder(self) -> Path | None:
        """Where the masks are that the result was made with, or None where they are gone."""
        given = self.manifest["objects"].get("masks")
        places = [self.folder / MASKS, *([Path(given)] if given else [])]
        return next((p for p in places if p.exists()), None)

    @property
    def read(self) -> tuple[Path, ...]:
        """What a result is read with that lies outside of it: its input, and its masks."""
        masks = self.mask_folder
        return (self.source,) if masks is None else (self.source, masks)

    @cached_property
    def masks(self) -> Masks | None:
        """The masks that the result was made with, or None where they are gone.

        Raises MaskError where others are in their place.
        """
        folder = self.mask_folder
        if folder is None:
            return None
        options = self.input.options
        return load_masks(folder, self.frames, self.size, options=options, video=self.input)

    @cached_property
    def layer_folder(self) -> Path:
        """Where the deepest layers are that can be read. Raises ResultError."""
        for form in READABLE:
            folder = self.folder / LAYER_FOLDERS[form]
            if all((folder / name).is_dir() for name in self.names):
                return folder
        raise ResultError(
            f"{self.folder} holds no PNG layers to work on: decompose again with --format png "
            "or png16."
        )

    @cached_property
    def _files(self) -> dict[Path, list[Path]]:
        return {}

    def passes(self, name: str) -> tuple[str, ...]:
        """The passes that the result holds of an object, back to front."""
        folder = self.folder / PASSES / name
        return tuple(part for part in PASS_ORDER if (folder / part).is_dir())

    def layer(self, name: str, t: int) -> np.ndarray:
        """An object's layer in frame t, (H, W, 4) float32 straight alpha."""
        return self._image(self.layer_folder / name, t, 4)

    def one_pass(self, name: str, part: str, t: int) -> np.ndarray:
        """One pass of an object in frame t, (H, W, 4) float32 straight alpha."""
        return self._image(self.folder / PASSES / name / part, t, 4)

    @property
    def has_residual(self) -> bool:
        """Whether there is a plate of every frame that holds what no layer owns.

        Only with --exact: else background/ holds the clean plates of a moving camera or light.
        """
        exact = (self.manifest.get("options") or {}).get("exact", False)
        return (self.folder / RESIDUAL).is_dir() and bool(exact)

    def plate_folder(self, clean: bool = False) -> Path | None:
        """Where the plate of every frame is, or None where one image holds for all."""
        if self.has_residual and not clean:
            return self.folder / RESIDUAL
        if (self.folder / CLEAN).is_dir():
            return self.folder / CLEAN
        clean_there = (self.folder / RESIDUAL).is_dir() and not self.has_residual
        return self.folder / RESIDUAL if clean_there else None

    def plate(self, t: int, clean: bool = False) -> np.ndarray:
        """The plate of frame t, (H, W, 3) float32: the residual one if there is, else the clean.

        16-bit layers have a residual plate of their own, free of the rounding of 8-bit ones.
        """
        folder = self.plate_folder(clean)
        own = self.layer_folder / free_name(PLATE, self.names)
        if self.has_residual and not clean and own.is_dir():
            folder = own
        return self._still if folder is None else self._image(folder, t, 3)

    def plate_below(self, t: int, placed: Sequence[np.ndarray], clean: bool = False) -> np.ndarray:
        """The plate of frame t for layers (H, W, 4) that may be others than its own, (H, W, 3).

        Below a layer of transmittance T the residual plate holds what no layer owns 1 / T times as
        strong, so that as much of it is seen as in the input. Where the layers now let through more
        than they did, that is too much: it is brought back to what the input shows.
        """
        below = self.plate(t, clean)
        if clean or not self.has_residual:
            return below
        was = transmittance((self.layer(name, t) for name in self.names), self.size)
        share = was / np.maximum(transmittance(placed, self.size), np.float32(1e-6))
        if share.min() >= 1:
            return below
        bare = self.plate(t, clean=True)
        return bare + grey(np.minimum(share, 1)) * (below - bare)

    @cached_property
    def _still(self) -> np.ndarray:
        return self._read(self.folder / "background.png", 3)

    def frame(
        self, t: int, number: int | None = None, clean: bool = False, parts: bool = False
    ) -> FrameOutput:
        """Frame t, the composite made from layers and plate. parts: with its passes."""
        layers = np.empty((len(self.names), *self.size, 4), np.float32)
        for layer, name in zip(layers, self.names, strict=True):
            self._image(self.layer_folder / name, t, 4, layer)
        plate = self.plate(t, clean)
        composite = self.over(layers, t, plate)
        owners = self.names if parts else ()
        passes = {(n, p): self.one_pass(n, p, t) for n in owners for p in self.passes(n)}
        number = t if number is None else number
        return FrameOutput(number, layers, plate, composite, self.names, self.order[t], passes)

    def over(self, layers: np.ndarray, t: int, plate: np.ndarray) -> np.ndarray:
        """Layers (N, H, W, 4) over a plate (H, W, 3), in the order of frame t."""
        return lay_over((layers[i] for i in self.order[t]), plate)

    @cached_property
    def source_lost(self) -> str | None:
        """What has become of the input where it is not what was decomposed any more, or None."""
        path = self.source
        if not path.exists():
            return f"The input, {path}, is gone"
        try:
            found = sha256_of_input(path)
        except OSError as error:
            return f"The input, {path}, cannot be read ({error.strerror})"
        if found != self.input.sha256:
            return f"The input, {path}, is not the one that was decomposed any more"
        return None

    @property
    def audio(self) -> Audio | None:
        """The input's sound, where that is still there."""
        sound = self.input.audio
        return None if sound is None or self.source_lost else sound

    def source_frames(self) -> Iterator[np.ndarray] | None:
        """The input's frames, (H, W, 3) at its depth, or None where the video is lost."""
        if self.source_lost:
            return None
        return iter_frames(self.source, deep=None, options=self.input.options)

    def delivery(self, **facts: Any) -> Delivery:
        """What writers of this result need. facts: fields of Delivery to be different."""
        return replace(delivery_of(self.input), **{"audio": self.audio, **facts})

    def _image(
        self, folder: Path, t: int, channels: int, out: np.ndarray | None = None
    ) -> np.ndarray:
        if folder not in self._files:
            files = list_images(folder)
            if len(files) != self.frames:
                raise ResultError(
                    f"{folder} has {len(files)} images for {self.frames} frames: decompose again."
                )
            self._files[folder] = files
        return self._read(self._files[folder][t], channels, out)

    def _read(self, path: Path, channels: int, out: np.ndarray | None = None) -> np.ndarray:
        with quiet_opencv():
            image = read_image(path, cv2.IMREAD_UNCHANGED)
        if image is None:
            raise ResultError(f"{path} cannot be read as an image.")
        shape = (*self.size, channels)
        if image.shape != shape:
            raise ResultError(f"{path} is {image.shape}, where {shape} was expected.")
        code = cv2.COLOR_BGRA2RGBA if channels == 4 else cv2.COLOR_BGR2RGB
        scale = np.float32(1 / np.iinfo(image.dtype).max)
        return np.multiply(cv2.cvtColor(image, code), scale, out=out, dtype=np.float32)


def read_result(folder: Path) -> FinishedResult:
    """Open a result's folder. Raises ResultError where it is none, or a damaged one."""
    folder = Path(folder)
    path = folder / "manifest.json"
    if not path.is_file():
        raise ResultError(
            f"{folder} is not a result of `omnimatte decompose`: it has no manifest.json."
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if "shots" in manifest:
            raise ResultError(_of_shots(folder, manifest["shots"]))
        if "part" in manifest:
            raise ResultError(
                f"{folder} holds a part of a shot: `omnimatte join` puts the parts together first."
            )
        facts, objects = manifest["input"], manifest["objects"]
        names = tuple(str(n) for n in objects["names"])
        frames = int(facts["frames"])
        result = FinishedResult(
            folder,
            manifest,
            names,
            read_input(facts),
            _orders(objects["order"], names, frames),
            _homographies(folder / "camera.json", frames),
        )
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise ResultError(f"{path} is damaged or of another kind ({error!r}).") from error
    return result


def _of_shots(folder: Path, shots: list[dict[str, Any]]) -> str:
    there = [str(folder / s["folder"]) for s in shots if "left_out" not in s]
    return f"{folder} holds a result for each shot ({', '.join(there)}): name one of them."


def _orders(order: list[Any], names: tuple[str, ...], frames: int) -> tuple[tuple[int, ...], ...]:
    """Indices for each frame, from one list of names for all or one a frame."""
    rows = order if order and isinstance(order[0], list) else [order] * frames
    if len(rows) != frames:
        raise ValueError(f"{len(rows)} orders for {frames} frames")
    return tuple(tuple(names.index(name) for name in row) for row in rows)


def _homographies(path: Path, frames: int) -> np.ndarray | None:
    if not path.is_file():
        return None
    facts = json.loads(path.read_text(encoding="utf-8"))
    if facts.get("homographies") is None or facts.get("camera") == "static":
        return None
    found = np.array(facts["homographies"], np.float64)
    if found.shape != (frames, 3, 3) or not np.isfinite(found).all():
        raise ValueError(f"camera.json holds homographies of shape {found.shape}")
    return found

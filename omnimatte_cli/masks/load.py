"""Load the user's masks, whichever way they are stored, and check that they fit the video.

Three layouts are told apart by looking: one folder of images per object, one mask video
per object (both may stand side by side), or one folder of indexed PNGs in which each palette index
is an object.
Files are read one at a time; what stays in memory is compressed bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from omnimatte_cli.arrays import Masks, Size, pack_mask
from omnimatte_cli.errors import MaskError, VideoError
from omnimatte_cli.masks.order import read_order
from omnimatte_cli.media.images import (
    list_images,
    natural_key,
    number_images,
    quiet_opencv,
    read_image,
    wxh,
)
from omnimatte_cli.media.read import VIDEO_SUFFIXES, iter_frames, read_palette
from omnimatte_cli.progress import Progress, Silent

WORKERS = 3  # threads that decode images; more gain nothing
ASPECT_TOLERANCE = 0.01  # by how much a mask's aspect may differ from the video's
NOISE_RANGE = 32  # levels of 256 that a lossy codec may leave in a mask that is empty
LOSSY_SUFFIXES = VIDEO_SUFFIXES | {".jpg", ".jpeg", ".webp"}
VOID = 255  # palette index that means "not labelled" in DAVIS and VOC
MAX_INDICES = 64  # more palette indices than this are a picture, not a map of objects
IGNORED_FOLDERS = frozenset({"__MACOSX", "@eaDir"})

T = TypeVar("T")


def load_masks(
    folder: Path,
    frames: int,
    size: Size,
    order: str | None = None,
    progress: Progress | None = None,
) -> Masks:
    """Read the masks of every object for a video of `frames` frames of `size` (H, W).

    folder: where the masks are (or one mask video). order: names from back to front with commas
    between, or None for order.txt or the alphabet. Raises MaskError, which names the object, the
    frame and the file.
    """
    folder, progress = Path(folder), progress or Silent()
    notes: list[str] = []
    objects: dict[str, tuple[bytes, ...]] = {}
    with quiet_opencv():
        sources = _find_objects(folder)
        if folder.is_dir() and folder not in sources.values() and list_images(folder):
            notes.append(f"Images directly in {folder} were left out: its objects have their own.")
        progress.stage("reading masks", len(sources))
        if len(sources) == 1 and (indexed := _read_indexed(folder, frames, size, notes)):
            objects = indexed
        else:
            for done, (name, source) in enumerate(sources.items(), start=1):
                objects[name] = _read_object(name, source, frames, size, notes)
                progress.step(done, name)
    names = tuple(objects)
    ranks, order_source = read_order(folder, names, frames, order)
    for note in notes:
        progress.say(note)
    return Masks(names, size, ranks, tuple(objects.values()), order_source, tuple(notes))


def _find_objects(folder: Path) -> dict[str, Path]:
    """Folder or video of each object, by name in alphabetical order (numbers as numbers)."""
    if not folder.exists():
        raise MaskError(f"The masks folder {folder} does not exist.")
    if folder.is_file():
        return {folder.stem: folder}
    entries = [p for p in folder.iterdir() if not p.name.startswith(".")]
    folders = [p for p in entries if p.is_dir() and p.name not in IGNORED_FOLDERS]
    videos = [p for p in entries if p.is_file() and p.suffix.lower() in VIDEO_SUFFIXES]
    # `omnimatte masks` writes a preview.mp4 beside its masks.
    videos = [p for p in videos if p.stem.lower() != "preview"]
    if list_images(folder) and not videos and not any(list_images(p) for p in folders):
        return {folder.resolve().name: folder}
    found: dict[str, Path] = {}
    for path in sorted(folders + videos, key=lambda p: natural_key(p.name)):
        name = path.name if path.is_dir() else path.stem
        if name in found:
            raise MaskError(f"Object '{name}' has two sources: {found[name]} and {path}.")
        found[name] = path
    if not found:
        raise MaskError(f"No masks in {folder}: neither folders of images, nor images, nor videos.")
    return dict(sorted(found.items(), key=lambda item: natural_key(item[0])))


# ------------------------------------------------------ one object: a folder of images, or a video


@dataclass(frozen=True)
class _Object:
    """Where one object's masks are: the image of each frame, or one video."""

    name: str
    path: Path
    files: tuple[Path, ...] = ()  # none for a video

    def file(self, t: int) -> Path:
        return self.files[t] if self.files else self.path

    def where(self, t: int) -> str:
        """How an error about frame t begins."""
        return f"Object '{self.name}', frame {t}: {self.file(t)}"

    def each(self, frames: Iterable[int], job: Callable[[int, np.ndarray], T]) -> list[T]:
        """`job` on the pictures of the given frames in turn; ends early where a video does."""
        if self.files:
            with ThreadPoolExecutor(WORKERS) as pool:
                return list(pool.map(lambda t: job(t, self._image(t)), frames))
        wanted = set(frames)
        try:
            pictures = enumerate(iter_frames(self.path, max(wanted, default=-1) + 1, alpha=True))
            return [job(t, picture) for t, picture in pictures if t in wanted]
        except VideoError as error:
            raise MaskError(f"Object '{self.name}': {error}") from error

    def _image(self, t: int) -> np.ndarray:
        image = read_image(self.files[t], cv2.IMREAD_UNCHANGED)
        if image is None:
            raise MaskError(f"{self.where(t)} cannot be read as an image.")
        if image.dtype not in (np.uint8, np.uint16):
            raise MaskError(
                f"{self.where(t)} holds {image.dtype} numbers; masks have 8 or 16 bits."
            )
        return image


@dataclass(frozen=True)
class _Cut:
    """One frame's mask, cut at a guess of the threshold.

    low, high: the frame's lowest and highest level. below, above: the levels next to the guess:
    every threshold in [below, above) gives the same mask. shape: (H, W) of the file.
    """

    packed: bytes
    low: int
    high: int
    below: float
    above: float
    two_levels: bool
    shape: Size
    full_scale: int

    @classmethod
    def at(cls, levels: np.ndarray, guess: float, size: Size) -> _Cut:
        """Cut `levels` (h, w) uint8 or uint16, brought to `size`, at `guess`."""
        h, w = levels.shape
        levels = _resized(levels, size)
        top = int(np.iinfo(levels.dtype).max)
        mask = levels > guess
        low, high = int(levels.min()), int(levels.max())
        below = int(np.where(mask, 0, levels).max()) if low <= guess else -np.inf
        above = int(np.where(mask, levels, top).min()) if high > guess else np.inf
        two = bool(((levels == low) | (levels == high)).all())
        return cls(pack_mask(mask), low, high, below, above, two, (h, w), top)


def _read_object(
    name: str, source: Path, frames: int, size: Size, notes: list[str]
) -> tuple[bytes, ...]:
    """All masks of one object, packed, cut at half of the range in use over all frames.

    Each frame is cut once at the half of the first frame's range, and again only if some level
    lies between that guess and the true threshold.
    """
    obj = _Object(name, source, _files(name, source, frames) if source.is_dir() else ())
    first = obj.each([0], lambda t, image: _planes(image)) or [{}]
    guess = {k: (int(p.min()) + int(p.max())) / 2 for k, p in first[0].items()}

    def cut(t: int, image: np.ndarray) -> dict[str, _Cut]:
        _check_aspect(obj.where(t), image.shape, size)
        return {k: _Cut.at(p, guess.get(k, 127.0), size) for k, p in _planes(image).items()}

    # One frame more is asked of a video, to see whether it goes on.
    planes = obj.each(range(frames if obj.files else frames + 1), cut)
    if len(planes) < frames:
        raise MaskError(f"{obj.where(len(planes))} ends before it; the video has {frames} frames.")
    if len(planes) > frames:
        raise MaskError(f"{obj.where(frames)} goes on, but the video has only {frames} frames.")
    # Alpha holds the mask unless every frame is opaque.
    alphas = [p["alpha"] for p in planes if "alpha" in p]
    key = "alpha" if any(a.low < a.full_scale for a in alphas) else "colour"
    if lacking := [t for t, p in enumerate(planes) if key not in p]:
        raise MaskError(f"{obj.where(lacking[0])} has no alpha, where other frames hold the mask.")
    cuts = [p[key] for p in planes]

    low, high = min(c.low for c in cuts), max(c.high for c in cuts)
    if low == high > 0:  # no range to halve: white in all frames
        raise MaskError(f"{obj.where(0)} covers the whole picture.")
    guess[key] = high if _is_noise(obj, cuts, low, high) else (low + high) / 2
    stale = [t for t, c in enumerate(cuts) if not c.below <= guess[key] < c.above]
    for t, again in zip(stale, obj.each(stale, cut), strict=True):
        cuts[t] = again[key]
    shapes = sorted({c.shape for c in cuts if c.shape != size})
    notes += [f"Masks of '{name}' were resized from {wxh(s)} to {wxh(size)}." for s in shapes]
    packed = tuple(c.packed for c in cuts)
    _check_cover(obj, packed, size)
    return packed


def _planes(image: np.ndarray) -> dict[str, np.ndarray]:
    """Levels (H, W) in which the mask may be: the brightest of the colours, and alpha."""
    if image.ndim == 2:
        return {"colour": image}
    channels = cv2.split(image)
    planes = {"colour": channels[0]}
    for channel in channels[1:3] if len(channels) > 2 else ():
        planes["colour"] = cv2.max(planes["colour"], channel)
    if len(channels) in (2, 4):
        planes["alpha"] = channels[-1]
    return planes


def _is_noise(obj: _Object, cuts: list[_Cut], low: int, high: int) -> bool:
    """Whether a lossy codec's noise is all there is: the object is in no frame."""
    if obj.file(0).suffix.lower() not in LOSSY_SUFFIXES or high - low >= NOISE_RANGE:
        return False
    return not all(c.two_levels and {c.low, c.high} <= {low, high} for c in cuts)


# ---------------------------------------------------------------------- indexed PNGs (DAVIS style)


def _read_indexed(
    folder: Path, frames: int, size: Size, notes: list[str]
) -> dict[str, tuple[bytes, ...]] | None:
    """Masks by object name from a folder of indexed PNGs, or None if it is not one."""
    files = list_images(folder) if folder.is_dir() else []
    if not files or _palette_of(0, files[0]) is None:
        return None
    numbered = _files(folder.resolve().name, folder, frames)

    def split(t: int) -> tuple[dict[int, bytes], set[tuple[int, ...]], Size]:
        image = _palette_of(t, numbered[t])
        if image is None:
            raise MaskError(f"Frame {t}: {numbered[t]} is not an indexed PNG like the others.")
        indices, palette = image
        shape = indices.shape
        _check_aspect(f"Frame {t}: {numbered[t]}", shape, size)
        indices = _resized(indices, size)
        used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
        if len(used) > MAX_INDICES:
            raise MaskError(
                f"Frame {t}: {numbered[t]} is a picture of {len(used)} colours, no mask."
            )
        colours = {tuple(int(c) for c in palette[i]) for i in used}
        objects = (int(i) for i in used if i not in (0, VOID))
        return {i: pack_mask(indices == i) for i in objects}, colours, shape

    with ThreadPoolExecutor(WORKERS) as pool:
        parts = list(pool.map(split, range(frames)))
    if set().union(*(colours for _, colours, _ in parts)) <= {(0, 0, 0), (255, 255, 255)}:
        return None  # one plain black and white mask that happens to be stored with a palette
    resized = sorted({s for _, _, s in parts if s != size})
    notes += [f"Masks were resized from {wxh(s)} to {wxh(size)}." for s in resized]
    nothing = pack_mask(np.zeros(size, bool))
    found = sorted({i for objects, _, _ in parts for i in objects})
    if not found:
        raise MaskError(f"The indexed masks in {folder} hold no object in any of {frames} frames.")
    masks = {f"object{i}": tuple(o.get(i, nothing) for o, _, _ in parts) for i in found}
    for name, packed in masks.items():
        _check_cover(_Object(name, folder, numbered), packed, size)
    return masks


def _palette_of(t: int, path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        return read_palette(path)
    except (VideoError, OSError) as error:
        raise MaskError(f"Frame {t}: {path} cannot be read as an image.") from error


# ------------------------------------------------------------------------------------------ checks


def _files(name: str, folder: Path, frames: int) -> tuple[Path, ...]:
    """The image of each frame in turn; numbers must run on from the first one."""
    files = list_images(folder)
    if not files:
        raise MaskError(f"Object '{name}' has no mask images in {folder}.")
    try:
        return tuple(number_images(files, frames))
    except ValueError as error:
        raise MaskError(f"Object '{name}', {error}") from error


def _check_aspect(where: str, shape: tuple[int, ...], size: Size) -> None:
    """Same aspect, or one that rounding to whole pixels explains."""
    (h, w), (height, width) = shape[:2], size
    close = abs(w * height / (h * width) - 1) <= ASPECT_TOLERANCE
    rounded = abs(h - w * height / width) <= 0.5 or abs(w - h * width / height) <= 0.5
    if not (close or rounded):
        raise MaskError(f"{where} is {wxh(shape)}: not the aspect of the video, {wxh(size)}.")


def _check_cover(obj: _Object, packed: tuple[bytes, ...], size: Size) -> None:
    """Some frame must hold the object, and no mask may cover the whole picture."""
    everything, nothing = pack_mask(np.ones(size, bool)), pack_mask(np.zeros(size, bool))
    if everything in packed:
        raise MaskError(f"{obj.where(packed.index(everything))} covers the whole picture.")
    if all(mask == nothing for mask in packed):
        raise MaskError(f"Object '{obj.name}' is empty in all {len(packed)} frames of {obj.path}.")


def _resized(image: np.ndarray, size: Size) -> np.ndarray:
    """(h, w) to (H, W) by nearest neighbour."""
    if image.shape == size:
        return image
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)

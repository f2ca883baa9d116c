"""Where each object's masks lie: the layouts of folders that tools export, told apart by looking.

A folder of images per object, a video per object (both side by side), one folder of label maps, any
of these one folder deeper, or a folder per frame with a file per object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from omnimatte_cli.errors import MaskError, VideoError
from omnimatte_cli.masks.pictures import Loss, Picture
from omnimatte_cli.media.images import (
    IMAGE_SUFFIXES,
    list_images,
    natural_key,
    pictures_in,
    read_deep,
)
from omnimatte_cli.media.numbers import NAMED, frame_numbers, number_images
from omnimatte_cli.media.options import ReadOptions
from omnimatte_cli.media.read import VIDEO_SUFFIXES, iter_frames, kept_by, read_palette
from omnimatte_cli.scratch import EVERY, trim

WORKERS = 3  # threads that decode images; more gain nothing
# Suffixes of what lies beside masks and is none: names, orders, licences, databases of systems.
NOTES = frozenset((".txt", ".json", ".xml", ".csv", ".md", ".yaml", ".yml", ".log", ".ini", ".db"))
LOSSY_SUFFIXES = VIDEO_SUFFIXES | {".jpg", ".jpeg", ".webp"}
FEW = 0.5  # share of the frames that have a mask, up to which it was drawn in a few on purpose
IGNORED_FOLDERS = frozenset({"__MACOSX", "@eaDir", "ImageSets", "JPEGImages"})
INSTANCES, CLASSES = "SegmentationObject", "SegmentationClass"  # of a VOC export, as CVAT's

T = TypeVar("T")


@dataclass(frozen=True)
class Wanted:
    """What masks have to fit: the video's count of frames, and its frames' numbers and names.

    part: (first, total) where only a part of the video is read. only: frames of which masks are
    needed, None for all. first_number: the number that the first frame bears in file names.
    root: the folder of all masks. anew: the numbers that frames get by --start-frame; masks that
    the tool has made bear them.
    """

    frames: int
    numbers: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None
    part: tuple[int, int] | None = None
    options: ReadOptions = field(default_factory=ReadOptions)
    only: frozenset[int] | None = None
    first_number: int = 0
    root: Path | None = None
    anew: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Source:
    """Where one series of masks is: the image of each frame (None: empty there), or one video."""

    name: str
    path: Path
    wanted: Wanted
    files: tuple[Path | None, ...] = ()  # none for a video

    @property
    def named(self) -> bool:
        """Whether it has a name of its own, not that of the folder of all masks."""
        return self.path != self.wanted.root and self.name not in (INSTANCES, CLASSES)

    @cached_property
    def loss(self) -> Loss:
        """What a codec may have changed."""
        first = next((f for f in self.files if f), self.path)
        if first.suffix.lower() not in LOSSY_SUFFIXES:
            return Loss.NOTHING
        try:
            keeps = None if self.files else kept_by(self.path)
        except VideoError:  # whoever reads it says so
            keeps = None
        return {None: Loss.LEVELS, "levels": Loss.COLOURS, "colours": Loss.NOTHING}[keeps]

    def file(self, t: int) -> Path:
        """The file that frame t is in."""
        return (self.files[t] if self.files else None) or self.path

    def where(self, t: int) -> str:
        """How an error about frame t begins."""
        return f"Object '{self.name}', frame {t}: {self.file(t)}"

    def each(self, frames: Iterable[int], job: Callable[[int, Picture], T]) -> list[tuple[int, T]]:
        """`job` on the pictures of these frames, with their numbers; ends early as a video does."""
        if self.files:
            there = [t for t in frames if self.files[t] is not None]
            with ThreadPoolExecutor(WORKERS) as pool:
                return list(pool.map(lambda t: (t, job(t, self._image(t))), there))
        wanted = set(frames)
        skip = self.wanted.part[0] if self.is_whole and self.wanted.part else 0
        stop = max(wanted, default=-1) + 1 + skip
        try:
            deep = False if self.loss == Loss.LEVELS else None
            frames_of = iter_frames(self.path, stop, alpha=True, deep=deep)
            pictures = enumerate(frames_of, start=-skip)
            found = []
            for t, image in pictures:
                if t % EVERY == 0:
                    trim()
                if t in wanted:
                    found.append((t, job(t, _of_video(image))))
            return found
        except VideoError as error:
            hint = "" if self.loss else " Masks are a folder of images, or a video."
            raise MaskError(f"Object '{self.name}': {error}{hint}") from error

    @cached_property
    def is_whole(self) -> bool:
        """Whether it is a video of all frames where only a part is wanted."""
        part = self.wanted.part
        return part is not None and not self.files and self._count() == part[1]

    def _count(self) -> int:
        from omnimatte_cli.media.read import count_frames

        try:
            return count_frames(self.path)
        except VideoError as error:
            raise MaskError(f"Object '{self.name}': {error}") from error

    def _image(self, t: int) -> Picture:
        path = self.files[t]
        assert path is not None
        try:
            indexed = read_palette(path)
        except (VideoError, OSError) as error:
            raise MaskError(f"{self.where(t)} cannot be read as an image.") from error
        if indexed is not None:
            return Picture.from_palette(*indexed)
        image = read_deep(path)
        if image is None:
            raise MaskError(f"{self.where(t)} cannot be read as an image.")
        if image.dtype.kind == "f":
            if not np.isfinite(image).all() or image.min() < -0.01 or image.max() > 255:
                raise MaskError(f"{self.where(t)} holds numbers that are no mask's (0 to 1).")
            scale = 65535 if image.max() <= 1.01 else 257
            image = (np.clip(image, 0, 65535 / scale) * scale + 0.5).astype(np.uint16)
        if image.dtype not in (np.uint8, np.uint16):
            raise MaskError(
                f"{self.where(t)} holds {image.dtype} numbers; masks have 8 or 16 bits."
            )
        return Picture(image)


def find_sources(folder: Path, wanted: Wanted, notes: list[str]) -> list[Source]:
    """Every series of masks in a folder, by name (numbers as numbers). Raises MaskError."""
    if not folder.exists():
        raise MaskError(f"The masks folder {folder} does not exist.")
    if folder.is_file():
        return [Source(folder.stem, folder, wanted)]
    folder = _descend(folder)
    folders, videos = _entries(folder)
    images = list_images(folder)
    with_images = [p for p in folders if list_images(p)]
    if strange := _of_no_use(folder):
        some = ", ".join(p.name for p in strange[:NAMED]) + ", ..." * (len(strange) > NAMED)
        notes.append(f"Left out, for they are neither images nor videos: {some} (in {folder}).")
    if images and not videos and not with_images:
        return [_series(folder.resolve().name, folder, wanted)]
    if images:
        notes.append(f"Images directly in {folder} were left out: its objects have their own.")
    if not images and not videos and _is_folder_per_frame(folders, wanted.frames):
        return _by_frame(folders, wanted)
    found: dict[str, Path] = {}
    for path in sorted(folders + videos, key=lambda p: natural_key(p.name)):
        name = path.name if path.is_dir() else path.stem
        if name in found:
            raise MaskError(f"Object '{name}' has two sources: {found[name]} and {path}.")
        found[name] = path
    if INSTANCES in found and CLASSES in found:
        del found[CLASSES]
        notes.append(f"{CLASSES} was left out: {INSTANCES} has one colour for each object.")
    if not found:
        texts = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".json", ".xml"))
        hint = f" {texts[0].name} may hold outlines: export them as images." if texts else ""
        raise MaskError(
            f"No masks in {folder}: neither folders of images, nor images, nor videos.{hint}"
        )
    ordered = sorted(found.items(), key=lambda item: natural_key(item[0]))
    return [
        _series(name, path, wanted) if path.is_dir() else Source(name, path, wanted)
        for name, path in ordered
    ]


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Subfolders and videos that may hold masks."""
    entries = [p for p in folder.iterdir() if not p.name.startswith(".")]
    folders = [p for p in entries if p.is_dir() and p.name not in IGNORED_FOLDERS]
    videos = [p for p in entries if p.is_file() and p.suffix.lower() in VIDEO_SUFFIXES]
    # `omnimatte masks` writes a preview.mp4 beside its masks.
    return folders, [p for p in videos if p.stem.lower() != "preview"]


def _of_no_use(folder: Path) -> list[Path]:
    """Files beside masks that nobody reads and that are no notes either: NumPy's, say."""
    files = (p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    known = VIDEO_SUFFIXES | IMAGE_SUFFIXES | NOTES
    return sorted(p for p in files if p.suffix.lower() not in known)


def _descend(folder: Path) -> Path:
    """The folder itself, or the one folder in it that holds all objects."""
    while not list_images(folder):
        folders, videos = _entries(folder)
        if videos or len(folders) != 1 or list_images(folders[0]):
            break
        inner, inner_videos = _entries(folders[0])
        if not inner and not inner_videos:
            break
        folder = folders[0]
    return folder


def _series(name: str, folder: Path, wanted: Wanted) -> Source:
    """The images of one folder, or of the only folder in it, frame by frame."""
    files = list_images(folder)
    while not files:
        folders, videos = _entries(folder)
        if not folders and len(videos) == 1:
            return Source(name, videos[0], wanted)
        if len(folders) != 1 or videos:
            raise MaskError(f"Object '{name}' has no mask images in {folder}.")
        folder = folders[0]
        files = list_images(folder)
    try:
        paired = _paired(files, wanted)
    except ValueError as error:
        if wanted.only is not None:
            return Source(name, folder, wanted, _those(name, files, wanted))
        held = pictures_in(files[0])
        if held > 1:
            raise MaskError(
                f"Object '{name}': {files[0]} holds {held} pictures: write an image for each "
                "frame, or a video."
            ) from error
        few = len(files) <= FEW * wanted.frames
        hint = (
            " Masks of a few frames: `masks --corrected` carries them to the others." if few else ""
        )
        raise MaskError(f"Object '{name}', {error}{hint}") from error
    return Source(name, folder, wanted, tuple(paired))


def _paired(files: list[Path], wanted: Wanted) -> list[Path]:
    """The file of each frame, by the video's numbers, or by those of --start-frame where the files
    bear exactly these. Raises ValueError."""
    try:
        return number_images(files, wanted.frames, wanted.numbers, wanted.names, wanted.part)
    except ValueError:
        numbers = frame_numbers([p.stem for p in files])
        if wanted.anew is None or numbers is None or sorted(numbers) != list(wanted.anew):
            raise
        return [path for _, path in sorted(zip(numbers, files, strict=True))]


def _those(name: str, files: list[Path], wanted: Wanted) -> tuple[Path | None, ...]:
    """The images of the frames that are needed, by the numbers of the frames; None for others."""
    numbers = wanted.numbers or range(wanted.first_number, wanted.first_number + wanted.frames)
    found = dict(zip(frame_numbers([p.stem for p in files]) or (), files, strict=False))
    if wanted.anew is not None and not any(numbers[t] in found for t in wanted.only or ()):
        numbers = wanted.anew
    for t in sorted(wanted.only or ()):
        if numbers[t] not in found:
            known = ", ".join(map(str, sorted(found)[:NAMED])) or "no number"
            raise MaskError(
                f"Object '{name}' has no mask of frame {numbers[t]} in {files[0].parent} (it has "
                f"{known}{' ...' * (len(found) > NAMED)})."
            )
    return tuple(found[n] if t in (wanted.only or ()) else None for t, n in enumerate(numbers))


def _is_folder_per_frame(folders: list[Path], frames: int) -> bool:
    """Whether folders are numbered as frames, each with a file per object."""
    if len(folders) < 2 or not all(re.search(r"\d", p.name) for p in folders):
        return False
    if len({re.sub(r"\d+", "#", p.name) for p in folders}) != 1:
        return False
    files = [list_images(p) for p in folders]
    most = max(len(f) for f in files)
    if most == 0 or (most == frames and len(folders) != frames):
        return False
    named = any(not p.stem.isdecimal() for f in files for p in f)
    close = abs(len(folders) - frames) <= max(2, frames // 10)
    return most < len(folders) and close and (named or most < frames)


def _by_frame(folders: list[Path], wanted: Wanted) -> list[Source]:
    """One series for each file name that occurs in the folders of the frames."""
    folders = sorted(folders, key=lambda p: natural_key(p.name))
    try:
        paired = _paired(folders, wanted)
    except ValueError as error:
        raise MaskError(f"Folders of frames: {error}") from error
    held = [{p.stem: p for p in list_images(folder)} for folder in paired]
    names = sorted({n for files in held for n in files}, key=natural_key)
    parent = folders[0].parent
    return [Source(n, parent, wanted, tuple(files.get(n) for files in held)) for n in names]


def _of_video(image: np.ndarray) -> Picture:
    """A frame (H, W, 4) RGBA, uint8 or uint16, as a picture, without alpha that says nothing."""
    if (image[..., 3] == np.iinfo(image.dtype).max).all():
        return Picture(cv2.cvtColor(image, cv2.COLOR_RGBA2BGR))
    return Picture(cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA))

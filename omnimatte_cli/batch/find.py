"""Find shots and their masks: in folders, by patterns, or in a list, which may name URLs."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omnimatte_cli.errors import InputError
from omnimatte_cli.media.images import list_images, natural_key
from omnimatte_cli.media.listing import MARK, is_signed
from omnimatte_cli.media.read import MIN_FRAMES, VIDEO_SUFFIXES
from omnimatte_cli.remote import url_of

LIST_SUFFIXES = frozenset((".txt", ".csv"))
MASK_FOLDERS = ("masks", "Annotations")  # of the shot that they lie in or beside
MASK_ENDINGS = (".masks", "_masks")  # of the shot whose name comes before


@dataclass(frozen=True)
class FoundShot:
    """A shot to be done. name: where its result goes below the output folder, with "/" between.

    masks: found beside it, or None. options: of this shot alone, from a list: name to value.
    """

    name: str
    source: Path
    masks: Path | None = None
    options: dict[str, str] = field(default_factory=dict)


def find_shots(sources: Sequence[str], masks_dir: Path | None = None) -> list[FoundShot]:
    """All shots of folders (searched through), files, patterns and lists, by name.

    masks_dir: a folder with the masks of every shot under the shot's name. Raises InputError where
    a source does not exist or holds no shot, and where two shots cannot be told apart.
    """
    found: list[tuple[Path, Path, dict[str, str]]] = []  # root, shot, options
    for source in sources:
        found += _expand(source)
    unique: dict[Path, tuple[Path, Path, dict[str, str]]] = {}
    for root, path, options in found:
        before = unique.get(path.resolve())
        if before is not None and options and before[2] not in ({}, options):
            raise InputError(f"{path} is listed twice with different options: remove one.")
        if before is None or options:
            unique[path.resolve()] = root, path, options
    if not unique:
        raise InputError(f"There are no shots in {', '.join(sources)}.")
    shots = []
    names = _names([(root, path) for root, path, _ in unique.values()])
    for (root, path, options), name in zip(unique.values(), names, strict=True):
        given = options.pop("masks", None)
        masks = Path(given) if given else find_masks(path, root, masks_dir)
        shots.append(FoundShot(name, path, masks, options))
    return sorted(shots, key=lambda shot: natural_key(shot.name))


def _expand(source: str) -> list[tuple[Path, Path, dict[str, str]]]:
    path = Path(source)
    if url_of(source) is not None:
        return [(path.parent, path, {})]
    if path.is_dir():
        return [(path, shot, {}) for shot in search(path)]
    if path.is_file() and path.suffix.lower() in LIST_SUFFIXES:
        return _read_list(path)
    if path.is_file():
        return [(path.parent, path, {})]
    if glob.has_magic(source):
        matches = [Path(p) for p in sorted(glob.glob(source, recursive=True))]
        shots = [p for p in matches if is_shot(p)]
        root = Path(source[: min(source.index(c) for c in "*?[" if c in source)])
        root = root if source[: len(str(root)) + 1].endswith("/") else root.parent
        return [(root, shot, {}) for shot in shots]
    raise InputError(f"{source} does not exist.")


def search(root: Path) -> Iterator[Path]:
    """Videos and folders of frames below a folder, results and masks left out."""
    if is_sequence(root):
        yield root
        return
    for place, folders, files in os.walk(root):
        folders[:] = sorted(n for n in folders if _is_searched(Path(place) / n))
        for name in sorted(files):
            path = Path(place) / name
            if path.suffix.lower() in VIDEO_SUFFIXES and not name.startswith("."):
                yield path
        for name in list(folders):
            if is_sequence(Path(place) / name):
                folders.remove(name)
                yield Path(place) / name


def _is_searched(folder: Path) -> bool:
    hidden = folder.name.startswith(".")
    masks = folder.name in MASK_FOLDERS or folder.name.endswith(MASK_ENDINGS)
    return not (hidden or masks or (folder / MARK).exists())


def is_shot(path: Path) -> bool:
    """Whether a path is a video by its name, or a folder of frames."""
    if path.is_dir():
        return _is_searched(path) and is_sequence(path)
    return path.suffix.lower() in VIDEO_SUFFIXES


def is_sequence(folder: Path) -> bool:
    """Whether a folder holds the frames of one shot."""
    try:
        return len(list_images(folder)) >= MIN_FRAMES
    except OSError:
        return False


def _read_list(path: Path) -> list[tuple[Path, Path, dict[str, str]]]:
    """A shot a line; in a CSV file with a line of titles, of which `shot` (or the first) is it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The list {path} cannot be read as text.") from error
    if path.suffix.lower() == ".csv":
        lines = list(csv.DictReader(text.splitlines()))
        titles = list(lines[0]) if lines else []
        column = next((t for t in titles if t.strip().lower() in ("shot", "video")), None)
        rows = [
            {str(k).strip(): (v or "").strip() for k, v in line.items() if k is not None}
            for line in lines
        ]
        column = (column or (titles[0] if titles else "")).strip()
    else:
        column = "shot"
        entries = (line.split("#")[0].strip() if line.startswith("#") else line.strip()
                   for line in text.splitlines())  # fmt: skip
        rows = [{"shot": entry} for entry in entries if entry]
    shots = []
    for number, row in enumerate(rows, start=1):
        name = row.pop(column, "")
        if not name:
            raise InputError(f"{path}, entry {number}: it names no shot.")
        options = {k: v for k, v in row.items() if v}
        if "masks" in options:
            options["masks"] = str(_relative_to(path.parent, options["masks"]))
        shots.append((path.parent, _relative_to(path.parent, name), options))
    return shots


def _relative_to(folder: Path, name: str) -> Path:
    """A path in a list: relative to the list's folder, or else to the working folder; or a URL."""
    if url_of(name) is not None:
        return Path(name)
    return folder / name if (folder / name).exists() or not Path(name).exists() else Path(name)


def find_masks(shot: Path, root: Path, masks_dir: Path | None) -> Path | None:
    """The masks of a shot: below masks_dir under its name, or beside it; None without any."""
    if masks_dir is not None:
        below = _below(root, shot)
        stems = [below, below.with_suffix("") if not shot.is_dir() else below]
        places = [masks_dir / p for stem in stems for p in _with_endings(stem)]
    elif url_of(shot) is not None:
        places = []  # what lies beside it is not looked for there
    elif shot.is_dir():
        places = [shot / n for n in MASK_FOLDERS]
        places += [shot.with_name(shot.name + e) for e in MASK_ENDINGS]
    else:
        stem = shot.with_suffix("")
        places = [shot.with_name(stem.name + e) for e in MASK_ENDINGS]
        places += [stem / n for n in MASK_FOLDERS]
        alone = sum(is_shot(p) for p in shot.parent.iterdir() if p.name not in MASK_FOLDERS) == 1
        places += [shot.parent / n for n in MASK_FOLDERS if alone]
    # Those in a result are what the tool has made of a shot without any.
    return next((p for p in places if p.is_dir() and not is_signed(p.parent)), None)


def _with_endings(stem: Path) -> list[Path]:
    return [stem, *(stem.with_name(stem.name + e) for e in MASK_ENDINGS)]


def _below(root: Path, shot: Path) -> Path:
    try:
        return shot.relative_to(root)
    except ValueError:
        return Path(shot.name)


def _names(shots: Sequence[tuple[Path, Path]]) -> list[str]:
    """A name for each shot: its path below its root without suffix; with it where two agree.

    Raises InputError where even these agree, or where one result would lie in another.
    """
    whole = [path.name if root == path else _below(root, path).as_posix() for root, path in shots]
    short = [
        name if path.is_dir() else Path(name).with_suffix("").as_posix()
        for name, (_, path) in zip(whole, shots, strict=True)
    ]

    def clashes(i: int, names: list[str]) -> list[int]:
        mine = names[i].lower()
        others = ((j, n.lower()) for j, n in enumerate(names) if j != i)
        return [j for j, n in others if n == mine or n.startswith(mine + "/")]

    taken: dict[str, list[int]] = {}
    for i, name in enumerate(short):
        taken.setdefault(name.lower(), []).append(i)
        for parent in Path(name.lower()).parents:
            taken.setdefault(parent.as_posix(), []).append(-1)  # a folder of others
    names = [whole[i] if len(taken[name.lower()]) > 1 else name for i, name in enumerate(short)]
    if len({n.lower() for n in names}) < len(names):
        for i in range(len(names)):
            for j in clashes(i, names):
                raise InputError(
                    f"{shots[i][1]} and {shots[j][1]} would both be written to {names[i]}: "
                    "run them into folders of their own."
                )
    return names

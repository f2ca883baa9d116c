"""Frame numbers in file names: which number is the frame's, what is missing, whose each file is."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

STARTS = (1000, 1001)  # numbers from which shots are counted in films
CONVENTIONAL = (0, 1)  # numbers from which tools count when they know no others
MANY = 3  # files whose names are alike but for numbers are a sequence
UNITS = frozenset(("t", "time", "h", "hour", "m", "min", "s", "sec", "ms"))
NAMED = 4  # at most this many missing numbers are named


def frame_numbers(stems: Sequence[str]) -> list[int] | None:
    """The number in each name that differs between names, or the last one; None without any."""
    digits = [re.findall(r"\d+", stem) for stem in stems]
    if not digits or not all(digits):
        return None
    place = -1
    if len({len(d) for d in digits}) == 1:
        differing = [
            i for i, column in enumerate(zip(*digits, strict=True)) if len(set(column)) > 1
        ]
        place = differing[-1] if differing else -1
    return [int(d[place]) for d in digits]


def unique_numbers(stems: Sequence[str]) -> list[int] | None:
    """`frame_numbers`, or None where two names bear the same one or they do not rise."""
    numbers = frame_numbers(stems)
    if numbers is None or any(b <= a for a, b in itertools.pairwise(numbers)):
        return None
    return numbers


def doubled(files: Sequence[Path]) -> tuple[Path, Path, int] | None:
    """Two files that bear one number and else other names: two sequences in one folder.

    PNGs beside JPEGs, frames beside their masks, two takes. Names that differ in digits alone may
    be time stamps, but not where a word stands before the digits: shot_v001.0001, cam2_0001.
    """
    numbers = frame_numbers([p.stem for p in files])
    kinds = [_kind(p) for p in files]
    if numbers is None or len(set(kinds)) == 1:
        return None
    seen: dict[int, tuple[Path, str]] = {}
    for number, path, kind in zip(numbers, files, kinds, strict=True):
        other, before = seen.setdefault(number, (path, kind))
        if before != kind:
            return other, path, number
    return None


def _kind(path: Path) -> str:
    """A name with "#" for its digits, but for those that a word stands before, as a take's.

    The last ones are the frame's in any case, and words may be units of time: 00m12s.
    """
    stem = path.stem
    runs = list(re.finditer(r"\d+", stem))
    for run in reversed(runs):
        word = re.search(r"(?:^|[^0-9A-Za-z])([A-Za-z]+)$", stem[: run.start()])
        if word is None or word[1].lower() in UNITS or run is runs[-1]:
            stem = f"{stem[: run.start()]}#{stem[run.end() :]}"
    return stem + path.suffix


def odd_one(files: Sequence[Path]) -> Path | None:
    """The file that is named otherwise than all the others: a clean plate beside numbered frames.

    The suffix does not count (a frame may have been painted over), nor does a missing end:
    `frame.png` goes before `frame (1).png`, `image.png` before `image copy 2.png`.
    """
    kinds = [re.sub(r"\d+", "#", p.stem).lower() for p in files]
    usual, most = Counter(kinds).most_common(1)[0]
    if most < MANY or "#" not in usual:
        return None
    others = [(k, p) for k, p in zip(kinds, files, strict=True) if not usual.startswith(k)]
    single = [p for k, p in others if kinds.count(k) == 1]
    return single[0] if single and len(single) == len(others) else None


def gaps_note(numbers: Sequence[int]) -> str | None:
    """A sentence about numbers that a sequence leaves out, or None where it runs on evenly."""
    steps = {b - a for a, b in itertools.pairwise(numbers)}
    if len(steps) <= 1:
        return None
    step = min(steps)
    if any(s % step for s in steps):
        return None  # time stamps
    missing: list[int] = []
    count = 0
    for a, b in itertools.pairwise(numbers):
        between = range(a + step, b, step)
        count += len(between)
        missing += list(between[: NAMED - len(missing)])
    if count > 10 * len(numbers):
        return None
    more = f" and {count - len(missing)} more" if count > len(missing) else ""
    which = ", ".join(map(str, missing))
    return f"Frame numbers {which}{more} are missing: the frames around them are neighbours now."


def number_images(
    files: Sequence[Path],
    frames: int,
    numbers: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    slack: tuple[int, int] | None = None,
) -> list[Path]:
    """The image of each of `frames` frames, by the names, else by the numbers in them.

    numbers, names: numbers and stems of the video's frames where it is a folder of images; then
    files bear the same ones, or count from 0 or 1. Else numbers may start anywhere but must run on,
    and files without numbers count in their order. slack: (first, total) where the video is a part
    of `total` frames, and a file of each of these frames is fine too. Raises ValueError with the
    first frame that is missing, doubled or left over.
    """
    if names is not None:
        by_stem = {p.stem: p for p in files}
        complete = len(by_stem) == len(files) and set(names) <= set(by_stem)
        if complete and (len(files) == frames or slack):
            return [by_stem[n] for n in names]
    count = f"there {'is 1 mask' if len(files) == 1 else f'are {len(files)} masks'} for "
    count += f"{frames} frame{'s' * (frames != 1)}"
    found = frame_numbers([p.stem for p in files])
    by_number = _by_number(files, found)
    if numbers is not None and found is not None:
        paired = _pair(files, by_number, numbers, names, count, slack)
        if paired is not None:
            return paired
    first = min(by_number)
    if slack and len(by_number) == slack[1] != frames:  # of the whole, wherever they count from
        first += slack[0]
        by_number = {n: p for n, p in by_number.items() if first <= n < first + frames}
    elif slack and set(range(slack[0], slack[0] + frames)) <= by_number.keys():
        return [by_number[n] for n in range(slack[0], slack[0] + frames)]
    elif slack and first not in (0, 1, *STARTS, slack[0] + 1) and first < slack[1]:
        last = slack[0] + frames - 1
        raise ValueError(
            f"{by_number[first]} is of another part: frames {slack[0]} to {last} are wanted "
            f"({count})."
        )
    # Fewer files than frames, and the first numbers absent: they are what is missing.
    start = first if first <= 1 or len(by_number) >= frames else 0
    for t in range(frames):
        if start + t not in by_number:
            name = example_name(files[0], start + t) if found else "its file"
            raise ValueError(f"frame {t}: {name} is missing in {files[0].parent} ({count}).")
    extra = [path for number, path in by_number.items() if number >= start + frames]
    if extra:
        raise ValueError(f"frame {frames}: {extra[0]} is left over ({count}).")
    return [by_number[start + t] for t in range(frames)]


def _by_number(files: Sequence[Path], numbers: Sequence[int] | None) -> dict[int, Path]:
    if numbers is None:
        return dict(enumerate(files))
    found: dict[int, Path] = {}
    for number, path in zip(numbers, files, strict=True):
        if number in found:
            other = found[number]
            raise ValueError(
                f"frame {number}: both {other} and {path} claim it; "
                "put each object's masks in a folder of its own."
            )
        found[number] = path
    return found


def _pair(
    files: Sequence[Path],
    by_number: dict[int, Path],
    numbers: Sequence[int],
    names: Sequence[str] | None,
    count: str,
    slack: tuple[int, int] | None,
) -> list[Path] | None:
    """Files by the numbers of the video's frames, or None where they count from 0 or 1 instead."""
    missing = [t for t, n in enumerate(numbers) if n not in by_number]
    left = sorted(set(by_number) - set(numbers))
    if not missing and (not left or slack):
        return [by_number[n] for n in numbers]
    first = min(by_number)
    runs_on = set(by_number) == set(range(first, first + len(by_number)))
    if first in CONVENTIONAL and runs_on and len(missing) == len(numbers):
        return None
    if first in CONVENTIONAL and runs_on and numbers[0] in CONVENTIONAL and not _ragged(numbers):
        return None
    folder = files[0].parent
    if missing:
        t = missing[0]
        frame = f" ({names[t]})" if names else ""
        name = example_name(files[0], numbers[t])
        raise ValueError(f"frame {t}{frame}: {name} is missing in {folder} ({count}).")
    path = by_number[left[0]]
    raise ValueError(f"{path} is left over: the video has no frame {left[0]} ({count}).")


def _ragged(numbers: Sequence[int]) -> bool:
    return numbers[-1] - numbers[0] != len(numbers) - 1


def example_name(path: Path, number: int) -> str:
    """A file name like that of `path`, with another number where its last one stands."""
    runs = list(re.finditer(r"\d+", path.stem))
    start, end = runs[-1].span()
    return f"{path.stem[:start]}{number:0{end - start}}{path.stem[end:]}{path.suffix}"

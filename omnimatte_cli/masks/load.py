"""Load the user's masks, whichever way they are stored, and check that they fit the video.

layout.py finds the series of pictures, kinds.py says what each means; here they are read and cut.
Files are read one at a time; what stays in memory is compressed bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from omnimatte_cli.arrays import ALPHABETICAL, Masks, Size, pack_mask
from omnimatte_cli.errors import MaskError, NoObjectError, OptionError
from omnimatte_cli.masks import kinds
from omnimatte_cli.masks.cutting import cut_labels
from omnimatte_cli.masks.kinds import NoMaskError, Reading
from omnimatte_cli.masks.layout import Source, Wanted, find_sources
from omnimatte_cli.masks.names import folder_name, read_names
from omnimatte_cli.masks.order import read_order
from omnimatte_cli.masks.pictures import Loss, Picture, Study, study
from omnimatte_cli.media.images import quiet_opencv, wxh
from omnimatte_cli.media.options import ReadOptions
from omnimatte_cli.media.read import VideoInfo
from omnimatte_cli.progress import Progress, Silent

ASPECT_TOLERANCE = 0.01  # by how much a mask's aspect may differ from the video's
NOISE_RANGE = 32  # levels of 256 that a lossy codec may leave in a mask that is empty
IMPLAUSIBLE_COVER = 0.8  # share of the picture in most frames: the mask is inverted, it seems
BORDER = 0.95  # share of the picture's border that is object, in most frames: likewise
SAMPLES = 3  # pictures by which a series is judged before all of it is read


def load_masks(
    folder: Path,
    frames: int,
    size: Size,
    order: str | None = None,
    progress: Progress | None = None,
    options: ReadOptions | None = None,
    video: VideoInfo | None = None,
    only: Sequence[int] | None = None,
) -> Masks:
    """Read the masks of every object for a video of `frames` frames of `size` (H, W).

    folder: where the masks are (or one mask video). order: names from back to front with commas
    between, or None for order.txt or the alphabet. video: with it, masks are paired by the numbers
    in its images' names, may have the displayed size, and may cover more than the part that is
    read. only: the frames that are asked for; others need no masks. Raises MaskError, which names
    the object, the frame and the file.
    """
    folder, progress = Path(folder), progress or Silent()
    options = options or ReadOptions()
    notes: list[str] = []
    objects: dict[str, tuple[bytes, ...]] = {}
    wanted = _wanted(frames, video, options)
    if only is not None:
        wanted = replace(wanted, only=frozenset(only))
    wanted = replace(wanted, root=folder)
    with quiet_opencv():
        sources = find_sources(folder, wanted, notes)
        names = read_names(folder)
        shown = None if video is None else video.shown_size
        progress.stage("reading masks", len(sources))
        for done, source in enumerate(sources, start=1):
            for name, packed in _read(source, size, shown, names, len(sources) > 1, notes).items():
                objects[_free(name, objects)] = packed
            progress.step(done, source.name)
    try:
        ranks, order_source = read_order(folder, tuple(objects), frames, order, wanted.part)
    except MaskError as error:
        if only is None:
            raise
        progress.say(f"The order is guessed anew: {error}")
        ranks, order_source = np.tile(np.arange(len(objects)), (frames, 1)), ALPHABETICAL
    masks = Masks(tuple(objects), size, ranks, tuple(objects.values()), order_source)
    if wanted.part is not None:
        masks = masks.part(0, frames)
        absent = [f"'{n}'" for n in objects if n not in masks.names]
        if not masks.names:
            raise NoObjectError(f"No mask in {folder} has anything in the chosen frames.")
        if absent:
            notes.append(f"In no chosen frame, and left out: {', '.join(absent)}.")
    for note in notes:
        progress.say(note)
    return replace(masks, notes=tuple(notes))


def _wanted(frames: int, video: VideoInfo | None, options: ReadOptions) -> Wanted:
    if video is None:
        return Wanted(frames, options=options)
    part = (video.first, video.total) if video.total != frames else None
    number = video.first_number
    anew = video.frame_numbers if video.options.start_frame is not None else None
    return Wanted(frames, video.numbers, video.names, part, options, None, number, None, anew)


@dataclass(frozen=True)
class _Cut:
    """One frame's mask, cut at a guess of the threshold.

    cover, border: share of the picture and of its border that is object. low, high: the frame's
    lowest and highest level. below, above: the levels next to the guess: every threshold in
    [below, above) gives the same mask.
    """

    packed: bytes
    cover: float
    border: float
    low: int = 0
    high: int = 0
    below: float = -np.inf
    above: float = np.inf

    @classmethod
    def of(cls, mask: np.ndarray, size: Size) -> _Cut:
        """A mask (h, w) bool, brought to `size`."""
        mask = _resized(mask, size)
        rim = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        return cls(pack_mask(mask), float(mask.mean()), float(rim.mean()))

    @classmethod
    def at(cls, levels: np.ndarray, threshold: float, size: Size, invert: bool) -> _Cut:
        """Cut `levels` (h, w) uint8 or uint16 at a threshold."""
        mask = levels > threshold
        low, high, *_ = cv2.minMaxLoc(levels)
        below = cv2.minMaxLoc(levels, (~mask).view(np.uint8))[1] if low <= threshold else -np.inf
        above = cv2.minMaxLoc(levels, mask.view(np.uint8))[0] if high > threshold else np.inf
        cut = cls.of(~mask if invert else mask, size)
        return replace(cut, low=int(low), high=int(high), below=below, above=above)


@dataclass(frozen=True)
class _Frame:
    """What one picture gave: its study, and its cut by label (0 for a series of one object)."""

    study: Study
    cuts: dict[int, _Cut]


def _read(
    source: Source,
    size: Size,
    shown: Size | None,
    names: dict[int, str],
    several: bool,
    notes: list[str],
) -> dict[str, tuple[bytes, ...]]:
    """All masks of one series by object name, packed.

    Each picture is cut as the first few of them suggest, and again only if all of them together
    say otherwise.
    """
    loss, invert = source.loss, source.wanted.options.invert_masks
    frames = source.wanted.frames
    reading = _first_guess(source, loss)

    def look(t: int, picture: Picture) -> _Frame:
        _check_aspect(source.where(t), picture.size, size, shown)
        return _Frame(study(picture, loss), _cut(picture, reading, size, invert))

    closed = bool(source.files) or source.is_whole
    # One frame more is asked of a video, to see whether it goes on.
    found = dict(source.each(range(frames if closed else frames + 1), look))
    if not source.files and len(found) != frames:
        t = min(len(found), frames)
        state = "ends before it" if t < frames else "goes on"
        raise MaskError(f"{source.where(t)} {state}; the video has {frames} frames.")
    studies = [f.study for f in found.values()]
    _check_alike(source, {t: f.study for t, f in found.items()})
    try:
        final = kinds.decide(studies, loss)
    except NoMaskError as error:
        raise MaskError(
            f"Object '{source.name}': {source.path} {error}: a mask is one level where the object "
            "is and another where it is not."
        ) from None
    if final.threshold is not None and _is_noise(loss, studies):
        final = replace(final, threshold=float(studies[0].full))
    if invert and final.labels:
        raise OptionError(f"--invert-masks: {source.path} is a map of several objects.")
    stale = (
        []
        if final.same_cut(reading)
        else [t for t, f in found.items() if _stale(f, reading, final)]
    )
    again = dict(source.each(stale, lambda t, picture: _cut(picture, final, size, invert)))
    cuts = {t: again.get(t, f.cuts) for t, f in found.items()}
    notes += [f"'{source.name}': {note}" if several else note for note in final.notes]
    for s in sorted({s.size for s in studies if s.size != size}):
        notes.append(f"Masks of '{source.name}' were resized from {wxh(s)} to {wxh(size)}.")
    return _objects(source, final, cuts, size, names, several)


def _first_guess(source: Source, loss: Loss) -> Reading:
    frames = source.wanted.frames
    chosen = sorted(set(np.linspace(0, frames - 1, SAMPLES).round().astype(int).tolist()))
    pictures = source.each(chosen if source.files else [0], lambda t, p: study(p, loss))
    try:
        return kinds.decide([s for _, s in pictures], loss)
    except (NoMaskError, IndexError):  # only all of them together can tell
        return Reading("grey", 127.0)


def _cut(picture: Picture, reading: Reading, size: Size, invert: bool) -> dict[int, _Cut]:
    if reading.labels:
        if reading.plane == "index" and picture.indices is None:
            return {}
        return {v: _Cut.of(m, size) for v, m in cut_labels(picture, reading).items()}
    plane = picture.alpha() if reading.plane == "alpha" else picture.grey()
    assert reading.threshold is not None
    return {} if plane is None else {0: _Cut.at(plane, reading.threshold, size, invert)}


def _stale(frame: _Frame, guess: Reading, final: Reading) -> bool:
    """Whether a frame that was cut by the guess has to be cut again."""
    if final.labels or guess.labels or guess.plane != final.plane or 0 not in frame.cuts:
        return True
    assert final.threshold is not None
    return not frame.cuts[0].below <= final.threshold < frame.cuts[0].above


def _is_noise(loss: Loss, studies: Sequence[Study]) -> bool:
    """Whether a lossy codec's noise is all there is: the object is in no frame."""
    low = min(int(s.grey.values[0]) for s in studies)
    high = max(int(s.grey.values[-1]) for s in studies)
    if loss != Loss.LEVELS or high - low >= NOISE_RANGE * (studies[0].full // 255):
        return False
    return len({int(v) for s in studies for v in s.grey.values}) > 2


def _objects(
    source: Source,
    reading: Reading,
    cuts: dict[int, dict[int, _Cut]],
    size: Size,
    names: dict[int, str],
    several: bool,
) -> dict[str, tuple[bytes, ...]]:
    """Packed masks by object name, checked: some frame holds it, and its cover is plausible."""
    frames = source.wanted.frames
    nothing = pack_mask(np.zeros(size, bool))
    if reading.labels:
        reach = kinds.WIDTH if source.loss == Loss.LEVELS and reading.plane == "grey" else 0
        known = {x.value: _name_of(x.value, names, reach) for x in reading.labels}
        named = {x.value: known[x.value] or x.name for x in reading.labels}
        if source.named and list(known.values()) == [None]:  # a folder an object, in its colour
            named, several = dict.fromkeys(known, source.name), False
    else:
        named = {0: source.name}
    found: dict[str, tuple[bytes, ...]] = {}
    for value, name in named.items():
        held = {t: c[value] for t, c in cuts.items() if value in c and c[value].cover > 0}
        if not held:
            _check_empty(source, frames, cuts)
        else:
            _check_plausible(source, name, held)
        packed = tuple(held[t].packed if t in held else nothing for t in range(frames))
        plain = folder_name(name) or f"object{value}" if reading.labels else name
        if reading.labels and several:
            plain = f"{source.name}_{plain}"
        found[_free(plain, found)] = packed
    return found


def _name_of(value: int, names: dict[int, str], reach: int) -> str | None:
    """The name of the nearest value that has one, at most `reach` away."""
    near = [v for v in names if abs(v - value) <= reach]
    return names[min(near, key=lambda v: abs(v - value))] if near else None


def _check_empty(source: Source, frames: int, cuts: dict[int, dict[int, _Cut]]) -> None:
    """An object that is nowhere is a mistake, unless it may be in another part of the video."""
    levels = {v for c in cuts.values() for x in c.values() for v in (x.low, x.high)}
    if len(levels) == 1 and levels != {0}:
        raise MaskError(
            f"Object '{source.name}' has one level in all {frames} frames of {source.path}: "
            f"{levels.pop()} everywhere."
        )
    if source.wanted.part is not None:
        return
    raise MaskError(f"Object '{source.name}' is empty in all {frames} frames of {source.path}.")


def _check_plausible(source: Source, name: str, held: dict[int, _Cut]) -> None:
    """A mask that fills one frame is fine: somebody passed the lens. In most frames it is not."""
    cover = float(np.median([c.cover for c in held.values()]))
    border = float(np.median([c.border for c in held.values()]))
    if cover <= IMPLAUSIBLE_COVER and border < BORDER:
        return
    if source.wanted.options.invert_masks:
        hint = "it looks right without --invert-masks."
    else:
        hint = "it is inverted (then say --invert-masks), or it is no mask."
    t = next(iter(held))
    said = (
        f"covers {cover:.0%} of the picture"
        if cover > IMPLAUSIBLE_COVER
        else ("covers the border of the picture all around")
    )
    raise MaskError(f"Object '{name}' {said} in most frames ({source.file(t)}): {hint}")


def _check_alike(source: Source, studies: dict[int, Study]) -> None:
    """All have alpha if any uses it, the same depth, and a palette if the first has one."""
    first = next(iter(studies.values()))
    uses_alpha = any(s.alpha is not None and s.alpha[0] < s.full for s in studies.values())
    for t, s in studies.items():
        if uses_alpha and s.alpha is None and source.files:
            raise MaskError(f"{source.where(t)} has no alpha, where other frames hold the mask.")
        if s.full != first.full:
            raise MaskError(f"{source.where(t)} has another bit depth than the first mask.")
        if (s.index is None) != (first.index is None):
            which = "not an indexed PNG" if s.index is None else "an indexed PNG"
            raise MaskError(f"{source.where(t)} is {which}, unlike the first mask.")


def _check_aspect(where: str, found: Size, size: Size, shown: Size | None) -> None:
    """Same aspect as stored or as displayed, or one that rounding to whole pixels explains."""
    if not any(_same_aspect(found, s) for s in (size, shown) if s is not None):
        also = f" (displayed {wxh(shown)})" if shown not in (None, size) and shown else ""
        if _same_aspect(found[::-1], size) and found[0] != found[1]:
            also += " but on its side: turn the masks as players turn the video"
        raise MaskError(f"{where} is {wxh(found)}: not the aspect of the video, {wxh(size)}{also}.")


def _same_aspect(found: Size, size: Size) -> bool:
    (h, w), (height, width) = found, size
    close = abs(w * height / (h * width) - 1) <= ASPECT_TOLERANCE
    return close or abs(h - w * height / width) <= 0.5 or abs(w - h * width / height) <= 0.5


def _free(name: str, taken: dict[str, tuple[bytes, ...]]) -> str:
    """The name, or with a number where it is taken: two instances of one class."""
    if name not in taken:
        return name
    return next(f"{name}_{i}" for i in range(2, len(taken) + 3) if f"{name}_{i}" not in taken)


def _resized(mask: np.ndarray, size: Size) -> np.ndarray:
    """(h, w) bool to (H, W) bool by nearest neighbour."""
    if mask.shape == size:
        return mask
    wide = cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return wide > 0

"""Stream the clip once more at full size: layers, composite and preview, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from omnimatte_cli.ahead import in_order
from omnimatte_cli.arrays import Plate, eight_bits, full_scale, integers, to_float
from omnimatte_cli.deliver.formats import open_writers
from omnimatte_cli.deliver.png import PngWriter
from omnimatte_cli.deliver.preview import checkerboard, preview_frame
from omnimatte_cli.deliver.writer import Delivery, FrameOutput
from omnimatte_cli.matte.box import bounding_box
from omnimatte_cli.matte.compositing import colours, grey
from omnimatte_cli.matte.compositing import composite as over
from omnimatte_cli.matte.effects import channel_sum
from omnimatte_cli.matte.metrics import PSNR
from omnimatte_cli.matte.passes import PASSES
from omnimatte_cli.matte.quantise import QuantisedLayers
from omnimatte_cli.matte.resolve import Layers, residual_plate
from omnimatte_cli.media.encode import ImageWriter, VideoWriter
from omnimatte_cli.progress import Progress

WORKERS = 2  # threads that resolve frames; NumPy and OpenCV release the interpreter lock
LOOKAHEAD = 4  # frames resolved ahead of the one being written, or fewer:
HELD_BYTES = 400 << 20  # bytes of them, and
WORK_BYTES = 1 << 30  # bytes that all threads may need for their frames
FRAME_BYTES, OBJECT_BYTES = 80, 30  # bytes a pixel that resolving takes, and an object more
MATTING_BYTES = 80  # and the matting network, meanwhile
CHECKS = 24  # squares of the preview's checkerboard from top to bottom
VISIBLE_ALPHA = 0.02  # a layer counts as present above this alpha

LayersAt = Callable[[int, np.ndarray, np.ndarray], Layers]  # (t, frame, plate)


@dataclass(frozen=True)
class FrameResult:
    """All that is written of one frame, and its part of the scores.

    layers: (N, H, W, 4) uint8. passes: (H, W, 4) uint8 by object and pass. deep: for other formats,
    or None where there are none; with the plate that they get. composite: (H, W, 3) uint8, of the
    8-bit layers. preview: (h, w, 3) uint8. rest: (H, W, 3), as deep as the input, the plate with
    what no layer explains, or None.
    """

    number: int
    layers: np.ndarray
    passes: dict[tuple[str, str], np.ndarray]
    deep: FrameOutput | None
    composite: np.ndarray
    preview: np.ndarray
    rest: np.ndarray | None
    scores: dict[str, PSNR]


@dataclass(frozen=True)
class ResultWriter:
    """Resolves frames with `layers_at` and writes them below `folder`.

    names: of the layers. order: (T, N) back to front. numbers: of the frames in file names. passes:
    which parts of each layer are written beside it. formats: besides 8-bit PNG. exact: also write
    the plate with what no layer explains, which is then the plate of the other formats, too. part:
    the frames that are written; None: all. shown: a layer as the preview shows it, (H, W, 4) to
    (H, W, 3) uint8; None: on a checkerboard. also: called with every frame's number from 0 and its
    written layers (N, H, W, 4) uint8, in order, for what a command makes of them beside the rest.

    Scores are PSNRs in dB of the written 8-bit layers over the plate against the input: of the
    whole picture ("after_detail"), where any alpha is above 0.02 ("after_detail_in_layers") and,
    if `exact`, of the layers over the plates with the rest ("exact"). "plate_outside_layers" is the
    plate's alone where no alpha is: the layers can give back whatever the plate gets wrong, but not
    there.
    """

    folder: Path
    names: tuple[str, ...]
    order: np.ndarray
    plate: Plate
    open_frames: Callable[[], Iterator[np.ndarray]]
    layers_at: LayersAt
    delivery: Delivery
    numbers: tuple[int, ...]
    exact: bool = False
    passes: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    part: range | None = None
    shown: Callable[[np.ndarray], np.ndarray] | None = None
    also: Callable[[int, np.ndarray], None] | None = None

    def write(self, progress: Progress) -> dict[str, PSNR]:
        """Write layers/, passes/, other formats, composite.mp4, preview.mp4 and background/.

        Returns the scores.
        """
        totals: dict[str, PSNR] = {}
        info = self.delivery
        everything = [*self.names, *(f"{n}_{p}" for n in self.names for p in self.passes)]
        with ExitStack() as stack:
            layers = PngWriter(self.folder / "layers", self.names, info)
            pngs = stack.enter_context(layers)
            images = stack.enter_context(ImageWriter(self.folder))
            others = stack.enter_context(open_writers(self._others, self.folder, everything, info))
            movies: dict[str, VideoWriter] = {}
            for t, result in enumerate(self.frames()):
                file = f"{result.number:05d}.png"
                pngs.put(result.number, dict(zip(self.names, result.layers, strict=True)))
                if self.also is not None:
                    self.also(t, result.layers)
                if result.deep is not None:
                    others.write(t, result.deep)
                for (name, part), image in result.passes.items():
                    images.write(Path("passes") / name / part / file, image)
                if result.rest is not None:
                    images.write(Path("background") / file, result.rest)
                for name, image in (("composite", result.composite), ("preview", result.preview)):
                    if name not in movies:
                        path, size = self.folder / f"{name}.mp4", (image.shape[0], image.shape[1])
                        sound = info.audio if name == "composite" else None
                        writer = VideoWriter(
                            path,
                            size,
                            info.timing,
                            info.ffmpeg,
                            profile="mp4" if name == "composite" else "preview",
                            tags=info.tags,
                            audio=sound,
                        )
                        movies[name] = stack.enter_context(writer)
                    movies[name].write(image)
                for name, score in result.scores.items():
                    totals.setdefault(name, PSNR()).merge(score)
                progress.step(t + 1)
        return totals

    def frames(self) -> Iterator[FrameResult]:
        """Every frame's result in order; the next few are computed meanwhile."""
        frames, plates = self.open_frames(), self.plate.stream()
        fixed = to_float(self.plate.image) if self.plate.moving is None else None

        def jobs() -> Iterator[tuple]:
            for t, (frame, plate) in enumerate(zip(frames, plates, strict=False)):
                if self.part is not None and t >= self.part.stop:
                    break
                if self.part is None or t >= self.part.start:
                    yield t, frame, plate, fixed

        try:
            with closing(in_order(self.resolve, jobs(), *self.concurrency())) as results:
                yield from results
        finally:
            for stream in (frames, plates):
                if isinstance(stream, Generator):
                    stream.close()  # which looks whether its file is still the same

    def concurrency(self) -> tuple[int, int]:
        """Threads that resolve, and frames ahead of the one being written: fewer of large ones."""
        pixels, count = self.delivery.size[0] * self.delivery.size[1], len(self.names)
        held = pixels * (FRAME_BYTES + OBJECT_BYTES * count)
        workers = max(1, min(WORKERS, WORK_BYTES // (held + pixels * MATTING_BYTES)))
        kept = pixels * (16 + 4 * count) + (held if self._others else 0)
        return workers, max(workers, min(LOOKAHEAD, HELD_BYTES // kept))

    def resolve(
        self, t: int, frame: np.ndarray, plate: np.ndarray, below: np.ndarray | None = None
    ) -> FrameResult:
        """Frame t with its plate, both (H, W, 3), uint8 or uint16. below: the plate in floats."""
        layers = self.layers_at(t, frame, plate)
        below = to_float(plate) if below is None else below
        order = tuple(self.order[t].tolist())
        passes = self._passes(layers)
        output = FrameOutput(
            self.numbers[t], layers.rgba, below, below, self.names, order, passes, layers.box
        )
        written = output.quantised(8)
        scores = frame_scores(frame, plate, written)
        rest = None
        if self.exact:
            truth = to_float(frame)
            made, through = written.composite, written.transmittance
            rest = integers(
                residual_plate(truth, below, made, through),
                8 * max(frame.itemsize, plate.itemsize),
            )
            scores["exact"] = PSNR()
            scores["exact"].add(made + grey(through) * (to_float(rest) - below), truth)
        deep = None
        if self._others:
            image, seen_through = over(layers.rgba, below, order)
            if self.exact:
                below = residual_plate(truth, below, image, seen_through)
                image, _ = over(layers.rgba, below, order)
            deep = replace(output, plate=below, composite=image, cache={})
        composite = eight_bits(plate).copy()
        if written.box is not None:
            composite[written.box.slices] = integers(written.made)
        tiles = [("input", eight_bits(frame)), ("composite", composite)]
        shown = self.shown or on_checker
        tiles += [(n, shown(x)) for n, x in zip(self.names, written.rgba, strict=True)]
        parts = {(name, part): output.quantised_pass(name, part) for name, part in passes}
        preview = preview_frame(tiles)
        return FrameResult(
            self.numbers[t], written.rgba, parts, deep, composite, preview, rest, scores
        )

    @property
    def _others(self) -> tuple[str, ...]:
        """The formats besides 8-bit PNG."""
        return tuple(form for form in self.formats if form != "png")

    def _passes(self, layers: Layers) -> dict[tuple[str, str], np.ndarray]:
        if not self.passes or layers.passes is None:
            return {}
        return {
            (name, part): layers.passes[i, PASSES.index(part)]
            for i, name in enumerate(self.names)
            for part in PASSES
            if part in self.passes
        }


def frame_scores(frame: np.ndarray, plate: np.ndarray, written: QuantisedLayers) -> dict[str, PSNR]:
    """One frame's part of the scores that `ResultWriter` describes.

    frame, plate: (H, W, 3) integers. Outside the layers' box the composite is the plate, and OpenCV
    sums squares of integers many times faster than NumPy those of floats.
    """
    pixels = frame.shape[0] * frame.shape[1]

    def plate_error(part: tuple[slice, slice]) -> float:
        if frame.dtype == plate.dtype:
            error = cv2.norm(frame[part], plate[part], cv2.NORM_L2SQR)
            return float(error) / full_scale(frame.dtype) ** 2
        return float(np.square(to_float(plate[part]) - to_float(frame[part])).sum(dtype=np.float64))

    everywhere = plate_error((slice(None), slice(None)))
    whole, inside, outside = PSNR(), PSNR(), PSNR()
    scores = {
        "after_detail": whole,
        "after_detail_in_layers": inside,
        "plate_outside_layers": outside,
    }
    if written.box is None:
        whole.add_error(everywhere, 3 * pixels)
        outside.add_error(everywhere, 3 * pixels)
        return scores
    part = written.box.slices
    alpha = written.rgba[:, part[0], part[1], 3]
    seen = (alpha > VISIBLE_ALPHA * full_scale(alpha.dtype)).any(0)
    truth = to_float(frame[part])
    made, given = (channel_sum(np.square(x - truth)) for x in (written.made, written.plate[part]))
    count = 3 * int(np.count_nonzero(seen))
    # Of integers, both: what is left of the difference is exact.
    around = everywhere - plate_error(part)
    whole.add_error(around + float(made.sum(dtype=np.float64)), 3 * pixels)
    inside.add_error(float(made[seen].sum(dtype=np.float64)), count)
    outside.add_error(around + float(given[~seen].sum(dtype=np.float64)), 3 * pixels - count)
    return scores


def on_checker(rgba: np.ndarray) -> np.ndarray:
    """A layer (H, W, 4) uint8 over a checkerboard, (H, W, 3) uint8."""
    height, width = rgba.shape[:2]
    board = checkerboard((height, width), max(4, height // CHECKS)).copy()
    box = bounding_box(rgba[..., 3] > 0)
    if box is not None:
        part = np.ascontiguousarray(rgba[box.slices])
        under = board[box.slices].astype(np.float32)
        alpha = grey(part[..., 3].astype(np.float32) / 255)
        board[box.slices] = (under + alpha * (colours(part) - under) + 0.5).astype(np.uint8)
    return board

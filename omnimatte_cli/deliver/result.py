"""Stream the clip once more at full size: layers, composite and preview, frame by frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnimatte_cli.arrays import Plate, to_float, to_uint8
from omnimatte_cli.matte.metrics import PSNR
from omnimatte_cli.matte.resolve import FrameLayers, residual_plate
from omnimatte_cli.media import encode as export
from omnimatte_cli.media.read import VideoInfo
from omnimatte_cli.progress import Progress

WORKERS = 2  # threads that resolve frames; NumPy and OpenCV release the interpreter lock
LOOKAHEAD = 4  # frames resolved ahead of the one being written: bounds the memory
CHECKS = 24  # squares of the preview's checkerboard from top to bottom
VISIBLE_ALPHA = 0.02  # a layer counts as present above this alpha

MakeLayers = Callable[[int, np.ndarray, np.ndarray], FrameLayers]  # (t, frame, plate)


@dataclass(frozen=True)
class FrameResult:
    """All that is written of one frame, and its part of the scores.

    rgba: (N, H, W, 4) uint8. composite: (H, W, 3) uint8. preview: (h, w, 3) uint8. rest: (H, W, 3)
    uint8, the plate with what no layer owns, or None.
    """

    rgba: np.ndarray
    composite: np.ndarray
    preview: np.ndarray
    rest: np.ndarray | None
    scores: dict[str, PSNR]


@dataclass(frozen=True)
class ResultWriter:
    """Resolves frames with `make_layers` and writes them below `folder`.

    Scores are PSNRs in dB of the written 8-bit layers over the plate against the input: of the
    whole picture ("after_detail"), where any alpha is above 0.02 ("after_detail_in_layers") and,
    if `exact`, of the layers over the plates with the rest ("exact"). "plate_outside_layers" is the
    plate's alone where no alpha is: the layers can give back whatever the plate gets wrong, but not
    there.
    """

    folder: Path
    info: VideoInfo
    names: tuple[str, ...]
    plate: Plate
    open_frames: Callable[[], Iterator[np.ndarray]]
    make_layers: MakeLayers
    exact: bool
    ffmpeg: str

    def write(self, progress: Progress) -> dict[str, float | None]:
        """Write layers/, composite.mp4, preview.mp4 and background/. Returns the scores."""
        totals: dict[str, PSNR] = {}
        fps = self.info.fps
        with ExitStack() as stack:
            layers = stack.enter_context(export.LayerWriter(self.folder / "layers", self.names))
            rest_folder = ["background"] if self.exact else []
            plates = stack.enter_context(export.LayerWriter(self.folder, rest_folder))
            movies: dict[str, export.VideoWriter] = {}
            for t, result in enumerate(self.frames()):
                for name, rgba in zip(self.names, result.rgba, strict=True):
                    layers.write(name, t, rgba)
                if result.rest is not None:
                    plates.write("background", t, result.rest)
                for name, image in (("composite", result.composite), ("preview", result.preview)):
                    if name not in movies:
                        path, size = self.folder / f"{name}.mp4", (image.shape[0], image.shape[1])
                        writer = export.VideoWriter(path, size, fps, self.ffmpeg)
                        movies[name] = stack.enter_context(writer)
                    movies[name].write(image)
                for name, score in result.scores.items():
                    totals.setdefault(name, PSNR()).merge(score)
                progress.step(t + 1)
        return {name: score.value for name, score in totals.items()}

    def frames(self) -> Iterator[FrameResult]:
        """Every frame's result in order; the next few are computed meanwhile."""
        pending: deque[Future[FrameResult]] = deque()
        pictures = zip(self.open_frames(), self.plate.stream(), strict=False)
        with ThreadPoolExecutor(WORKERS) as pool:
            try:
                for t, (frame, plate) in enumerate(pictures):
                    pending.append(pool.submit(self.resolve, t, frame, plate))
                    if len(pending) > LOOKAHEAD:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def resolve(self, t: int, frame: np.ndarray, plate: np.ndarray) -> FrameResult:
        """Frame t with its plate, both (H, W, 3) uint8."""
        layers = self.make_layers(t, frame, plate)
        truth, composite = to_float(frame), to_uint8(layers.composite)
        names = ("after_detail", "after_detail_in_layers", "plate_outside_layers")
        scores = {name: PSNR() for name in names}
        seen = np.any(layers.rgba[..., 3] > VISIBLE_ALPHA * 255, axis=0)
        scores["after_detail"].add(layers.composite, truth)
        scores["after_detail_in_layers"].add(layers.composite, truth, seen)
        scores["plate_outside_layers"].add(to_float(plate), truth, ~seen)
        rest = None
        if self.exact:
            rest = residual_plate(frame, plate, layers)
            change = to_float(rest) - to_float(plate)
            scores["exact"] = PSNR()
            scores["exact"].add(layers.composite + layers.transmittance[..., None] * change, truth)
        tiles = [("input", frame), ("composite", composite)]
        tiles += [(n, on_checker(rgba)) for n, rgba in zip(self.names, layers.rgba, strict=True)]
        return FrameResult(layers.rgba, composite, export.preview_frame(tiles), rest, scores)


def on_checker(rgba: np.ndarray) -> np.ndarray:
    """A layer (H, W, 4) uint8 over a checkerboard, (H, W, 3) uint8."""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    height, width = rgba.shape[:2]
    board = export.checkerboard((height, width), max(4, height // CHECKS))
    return (board + alpha * (rgba[..., :3] - board.astype(np.float32)) + 0.5).astype(np.uint8)

"""Make the README's images from the shipped example: preview.png, compose.png and report.jpg.

usage: python examples/pictures.py [--result out/walk] [--out examples/walk]

Without a result, the example is decomposed first, with the default options and --exact. Run it
again when weights or methods change. The report is drawn by Chromium, where there is one.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from omnimatte_cli import decompose
from omnimatte_cli.arrays import integers
from omnimatte_cli.compose.options import ComposeSettings
from omnimatte_cli.compose.write import compose_result
from omnimatte_cli.deliver.preview import checkerboard, preview_frame
from omnimatte_cli.deliver.read import FinishedResult, read_result
from omnimatte_cli.matte.compositing import lay_over
from omnimatte_cli.media.encode import write_image

WALK = Path(__file__).parent / "walk"
MOMENTS = (5, 14)  # frames of the preview
CELL = 16  # pixels of the checkerboard
ENLARGED = {"preview": 1.5, "compose": 2}
FRAME = 17  # of the compose strip
REPORT_HEIGHT = 820  # pixels of the report's image
# Width and height of a window, and what makes Chromium dark: laptop, phone, laptop at night.
WINDOWS = ((1280, 1640, False), (500, 1640, False), (1280, 1640, True))
COMPOSED = {
    "input": ComposeSettings(),
    "--remove walker": ComposeSettings(remove=("walker",)),
    "--remove walker --strobe hiker:6": ComposeSettings(remove=("walker",), strobe=("hiker:6",)),
    "--color hiker:gray --duplicate walker:-60,8,0": ComposeSettings(
        color=("hiker:gray",), duplicate=("walker:-60,8,0",)
    ),
}


def enlarged(image: np.ndarray, factor: float) -> np.ndarray:
    """A picture (H, W, 3) float in [0, 1] as uint8, larger."""
    return cv2.resize(integers(image), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def preview(result: FinishedResult) -> np.ndarray:
    """Two moments, one below the other: the input, each layer on a checkerboard, the plate."""
    sources = list(result.source_frames() or ())
    board = checkerboard(result.size, CELL).astype(np.float32) / 255
    rows = []
    for t in MOMENTS:
        layers = [lay_over([result.layer(name, t)], board) for name in result.names]
        source = sources[t].astype(np.float32) / np.iinfo(sources[t].dtype).max
        images = [source, *layers, result.plate(t, clean=True)]
        rows.append(np.hstack([enlarged(i, ENLARGED["preview"]) for i in images]))
    return np.vstack(rows)


def composed(result: FinishedResult) -> np.ndarray:
    """One frame as it was and after some edits, under their options."""
    tiles = []
    for label, settings in COMPOSED.items():
        composition, _ = compose_result(result, settings)
        frame = next(islice(composition.frames(), FRAME, None))
        tiles.append((label, enlarged(frame, ENLARGED["compose"])))
    return preview_frame(tiles)


def screenshots(report: Path, chromium: str) -> np.ndarray:
    """The report's beginning in several windows, side by side."""
    shots = []
    with tempfile.TemporaryDirectory() as scratch:
        for width, height, dark in WINDOWS:
            image = Path(scratch) / "shot.png"
            command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            command += [f"--user-data-dir={scratch}/profile", f"--window-size={width},{height}"]
            command += ["--force-dark-mode"] if dark else []
            command += [f"--screenshot={image}", report.resolve().as_uri()]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            size = (round(width * REPORT_HEIGHT / height), REPORT_HEIGHT)
            shots.append(cv2.resize(cv2.imread(str(image)), size, interpolation=cv2.INTER_AREA))
    return np.hstack(shots)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--result", type=Path, help="of the example, made with --exact")
    parser.add_argument("--out", type=Path, default=WALK)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.result or Path(scratch) / "walk"
        if args.result is None:
            decompose(WALK / "video.mp4", folder, masks=WALK / "masks", exact=True)
        result = read_result(folder)
        write_image(args.out / "preview.png", preview(result))
        write_image(args.out / "compose.png", composed(result))
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        if chromium is not None:
            image = screenshots(folder / "report.html", chromium)
            cv2.imwrite(str(args.out / "report.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 80])


if __name__ == "__main__":
    main()

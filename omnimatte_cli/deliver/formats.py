"""The formats that layers are written in: their names, folders and writers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omnimatte_cli.deliver.exr import ExrWriter
from omnimatte_cli.deliver.png import PngWriter
from omnimatte_cli.deliver.video import VideoLayerWriter
from omnimatte_cli.deliver.writer import Delivery, FrameOutput, LayerWriter, Writers
from omnimatte_cli.settings import check_formats

DEEP_FORMATS = frozenset(("png16", "prores", "exr"))  # of more than 8 bits a component
# Below a result's folder. 8-bit PNGs are what every result has.
LAYER_FOLDERS = {
    "png": "layers",
    "png16": "layers16",
    "prores": "prores",
    "webm": "webm",
    "exr": "exr",
    "mp4": "mp4",
}
PNG_BITS = {"png": 8, "png16": 16}


def open_writers(
    formats: Sequence[str], folder: Path, names: Sequence[str], info: Delivery
) -> Writers[FrameOutput]:
    """Writers of layers and plate below `folder`, a subfolder a format.

    names: of the layers in every FrameOutput, its passes included as "object_pass". Raises
    OptionError for an unknown format, MissingLibraryError where one needs a library.
    """
    check_formats(formats)
    writers: list[LayerWriter] = []
    for name in dict.fromkeys(formats):  # a format asked for twice is written once
        if name in ("png", "png16"):
            writers.append(PngWriter(folder / LAYER_FOLDERS[name], names, info, PNG_BITS[name]))
        elif name == "exr":
            writers.append(ExrWriter(folder / LAYER_FOLDERS[name], info))
        else:
            writers.append(VideoLayerWriter(folder / LAYER_FOLDERS[name], names, info, name))
    return Writers(writers)

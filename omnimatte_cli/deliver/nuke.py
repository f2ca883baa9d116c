"""`layers.nk`: a Nuke script whose Reads and Merges rebuild the composite from the layers.

EXR layers are merged in linear light, as they were made for it. The alpha of PNG and ProRes layers
holds in the video's encoded signal: they are read raw, premultiplied, merged, and only the result
is converted to Nuke's linear working space.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from omnimatte_cli.deliver.footage import Footage, Stack
from omnimatte_cli.deliver.writer import Delivery
from omnimatte_cli.media.atomic import write_bytes

PREFERRED = ("exr", "png16", "png", "prores")
ROW, COLUMN = 100, 200  # between nodes on the screen
# Nuke's names of the curves back to linear light, by ffmpeg's of the transfer.
NUKE_CURVES = {
    **dict.fromkeys(("bt709", "smpte170m", "bt2020-10", "bt2020-12", "iec61966-2-4"), "rec709"),
    "iec61966-2-1": "sRGB",
    "gamma22": "Gamma2.2",
    "linear": "linear",
}


def write_nuke_script(
    path: Path, stack: Stack, info: Delivery, changing_order: bool = False
) -> None:
    """Write the script; files are named relative to its folder."""
    write_bytes(path, nuke_script(stack, info, changing_order).encode())


def nuke_script(stack: Stack, info: Delivery, changing_order: bool = False) -> str:
    """The script's text. Nodes work on a stack, as in every Nuke script: input 0 is on its top."""
    height, width = info.size
    last = info.first + info.frames - 1
    shape = f"{width} {height} 0 0 {width} {height} {float(info.timing.sample_aspect):g} shot"
    out = ["#! Nuke -nx", "version 12.0 v1"]
    exr = stack.form == "exr"
    if exr:
        for footage in (stack.plate, *stack.layers):
            name = footage.layer
            parts = " ".join(f"{name}.{c}" for c in ("red", "green", "blue", "alpha"))
            out.append(f"add_layer {{{name} {parts}}}")
    root = {
        "inputs": "0",
        "frame": str(info.first),
        "first_frame": str(info.first),
        "last_frame": str(last),
        "lock_range": "true",
        "format": quoted(shape),
        "fps": f"{float(info.timing.fps):.6g}",
        "colorManagement": "Nuke",
        # Files are looked for beside the script, wherever it is moved to.
        "project_directory": r'"\[python \{nuke.script_directory()\}\]"',
    }
    out.append(node("Root", root))
    if changing_order:
        text = "Objects change places in some frames: this is the order of most."
        out.append(node("StickyNote", {"inputs": "0", "name": "Order", "label": quoted(text)}))
    if not exr and info.tags.transfer not in NUKE_CURVES:
        text = f"The result is encoded ({info.tags.transfer}): bring it to linear light at the end."
        out.append(node("StickyNote", {"inputs": "0", "name": "Encoded", "label": quoted(text)}))
    if exr:
        out += [read_node(stack.plate, "Layers", info, 0, 0, raw=False), "set Layers [stack 0]"]
        out.append(shuffle_node(stack.plate, "Plate", 0, 1))
    else:
        out.append(read_node(stack.plate, "Plate", info, 0, 0, raw=True))
    out.append("set Below [stack 0]")
    for column, footage in enumerate(stack.layers, 1):
        name = footage.layer
        if exr:
            out += ["push $Layers", shuffle_node(footage, name, column, 1)]
        else:
            out.append(read_node(footage, name, info, column, 0, raw=True))
            out.append(node("Premult", {"name": f"Premult_{name}", **at(column, 1)}))
        out.append("push $Below")
        merge = {"inputs": "2", "operation": "over", "name": f"Over_{name}", **at(0, column + 1)}
        out += [node("Merge2", merge), "set Below [stack 0]"]
    row = len(stack.layers) + 2
    if not exr and info.tags.transfer in NUKE_CURVES:
        curve = NUKE_CURVES[info.tags.transfer]
        facts = {"colorspace_in": curve, "channels": "rgb", "name": "ToLinear", **at(0, row)}
        out.append(node("Colorspace", facts))
    out.append(node("Viewer", {"frame_range": f"{info.first}-{last}", "name": "Viewer1"}))
    return "\n".join(out) + "\n"


def read_node(footage: Footage, name: str, info: Delivery, column: int, row: int, raw: bool) -> str:
    """A Read of a sequence, a movie (placed at the first frame), or a still (held)."""
    last = info.first + info.frames - 1
    kind = Path(footage.path).suffix[1:]
    facts = {"inputs": "0", "file_type": kind, "file": quoted(footage.path)}
    if footage.is_sequence:
        facts |= {"first": str(info.first), "last": str(last)}
        facts |= {"origfirst": str(info.first), "origlast": str(last), "origset": "true"}
    elif kind == "mov":
        facts |= {"first": "1", "last": str(info.frames), "frame_mode": '"start at"'}
        facts |= {"frame": str(info.first)}
    else:
        facts |= {"first": "1", "last": "1", "before": "hold", "after": "hold"}
    facts |= {"raw": "true"} if raw else {"colorspace": "linear"}
    return node("Read", {**facts, "name": f"Read_{name}", **at(column, row)})


def shuffle_node(footage: Footage, name: str, column: int, row: int) -> str:
    """Takes one layer of a multi-layer file out as rgba."""
    facts = {"in": footage.layer, "name": f"Shuffle_{name}", **at(column, row)}
    return node("Shuffle", facts)


def at(column: int, row: int) -> dict[str, str]:
    return {"xpos": str(column * COLUMN), "ypos": str(row * ROW)}


def node(kind: str, facts: Mapping[str, str]) -> str:
    """A node in Nuke's script language (a dialect of TCL)."""
    return "\n".join([f"{kind} {{", *(f" {key} {value}" for key, value in facts.items()), "}"])


def quoted(text: str) -> str:
    """Text as one TCL word: nothing in it is taken for a command or a variable."""
    return '"' + re.sub(r'(["\\\[\]{}$])', r"\\\1", text) + '"'

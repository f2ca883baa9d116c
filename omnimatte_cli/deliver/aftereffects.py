"""`layers.jsx`: an After Effects script that imports the layers and stacks them over the plate.

Run it with File > Scripts > Run Script File. It is ECMAScript 3, as ExtendScript is. Layers are
straight, and their alpha holds in the encoded signal: a project without linear blending shows the
composite as it was meant.
"""

from __future__ import annotations

import json
from pathlib import Path

from omnimatte_cli.deliver.footage import Footage, Stack
from omnimatte_cli.deliver.writer import Delivery
from omnimatte_cli.media.atomic import write_bytes

PREFERRED = ("prores", "png16", "png")  # it reads no layers of EXR and no WebM
SCRIPT = """\
// Made by omnimatte. After Effects: File > Scripts > Run Script File.
(function () {
    var shot = %s;
    var here = new File($.fileName).parent;

    function footage(sheet) {
        var file = new File(here.fsName + "/" + sheet.file);
        if (!file.exists) {
            throw new Error(file.fsName + " is missing: the script belongs beside the layers.");
        }
        var options = new ImportOptions(file);
        options.sequence = sheet.sequence;
        var item = app.project.importFile(options);
        item.name = shot.name + " " + sheet.name;
        item.pixelAspect = shot.pixelAspect;
        if (!item.mainSource.isStill) {
            item.mainSource.conformFrameRate = shot.fps;
        }
        if (item.mainSource.hasAlpha) {
            item.mainSource.alphaMode = AlphaMode.STRAIGHT;
        }
        return item;
    }

    app.beginUndoGroup("Import omnimatte layers");
    try {
        var comp = app.project.items.addComp(
            shot.name, shot.width, shot.height, shot.pixelAspect, shot.frames / shot.fps, shot.fps
        );
        comp.displayStartTime = shot.first / shot.fps;
        for (var i = 0; i < shot.sheets.length; i++) { // each is added above the one before
            comp.layers.add(footage(shot.sheets[i])).name = shot.sheets[i].name;
        }
        if (shot.note) {
            comp.comment = shot.note;
        }
        comp.openInViewer();
    } finally {
        app.endUndoGroup();
    }
}());
"""
CHANGING = "Objects change places in some frames: this is the order of most."


def write_aftereffects_script(
    path: Path, stack: Stack, info: Delivery, changing_order: bool = False
) -> None:
    """Write the script; files are named relative to its folder."""
    write_bytes(path, aftereffects_script(stack, info, changing_order).encode())


def aftereffects_script(stack: Stack, info: Delivery, changing_order: bool = False) -> str:
    """The script's text: the facts as a literal, and the same few lines for all."""
    height, width = info.size
    facts = {
        "name": info.shot,
        "width": width,
        "height": height,
        "pixelAspect": float(info.timing.sample_aspect),
        "fps": float(info.timing.fps),
        "frames": info.frames,
        "first": info.first,
        "note": CHANGING if changing_order else "",
        "sheets": [sheet(footage, info.first) for footage in (stack.plate, *stack.layers)],
    }
    literal = json.dumps(facts, indent=4).replace("\n", "\n    ")  # ASCII: any program reads it
    return SCRIPT % literal


def sheet(footage: Footage, first: int) -> dict[str, object]:
    """One item to import: a movie, a still, or the first file of a sequence."""
    file = footage.path % first if footage.is_sequence else footage.path
    return {"name": footage.name, "file": file, "sequence": footage.is_sequence}

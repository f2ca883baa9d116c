"""What a pretraining keeps in its folder: weights, state to resume from, and log.

Nothing of others is replaced, no weights that are none are written, and a resumed run writes the
log that it would have written in one go.
"""

from __future__ import annotations

import copy
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from omnimatte_cli.errors import OmnimatteError, OptionError, OutputError
from omnimatte_cli.matte.matting_network import MattingNet
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.media.atomic import replacing, write_text
from omnimatte_cli.methods import weights
from omnimatte_cli.methods.centrifuge.network import Centrifuge
from omnimatte_cli.methods.coordination.network import LayerNet
from omnimatte_cli.synth.seeds import SCENES_VERSION
from omnimatte_cli.training.recipe import Schedule

WEIGHTS, STATE, LOG, SHEET = "weights.safetensors", "state.pt", "log.jsonl", "sheet.png"
START = '{"step"'  # of each line of the log
IN_STATE = frozenset(("recipe", "done", "seconds", "net", "ema", "optimiser"))


def check_ours(out: Path) -> None:
    """Raise OutputError where files of others lie in `out` that a run would replace.

    A run's own state is there before anything else.
    """
    if (out / STATE).is_file():
        return
    for name in (WEIGHTS, LOG, SHEET):
        if (out / name).exists():
            raise OutputError(
                f"{out / name} is there, and no state.pt of a run that wrote it: give another "
                "--out, or move it away."
            )


def check_sound(net: nn.Module, ema: dict[str, Tensor], done: int, out: Path) -> None:
    """Raise OmnimatteError where weights are no numbers, or none that float16 can hold."""
    kept = (v.half() if v.is_floating_point() else v for v in ema.values())
    if all(bool(v.isfinite().all()) for v in (*net.state_dict().values(), *kept)):
        return
    raise OmnimatteError(
        f"The training diverged by step {done}: its weights are no numbers any more. What was "
        f"saved before stays in {out}; begin anew with a smaller lr."
    )


def averaged(net: nn.Module, ema: dict[str, Tensor]) -> nn.Module:
    """A copy of the network with the averaged weights, in eval mode."""
    twin = copy.deepcopy(net)
    twin.load_state_dict(ema)
    return twin.eval()


@dataclass
class KeptRun:
    """A run of a recipe in its folder. begun: the hash of the weights that it began with, "" for
    random ones. ema: the averaged weights."""

    out: Path
    recipe: Schedule
    begun: str
    net: nn.Module
    ema: dict[str, Tensor]
    optimiser: torch.optim.Optimizer

    def save_weights(self, done: int, trained: int, scores: dict[str, float]) -> None:
        """Write the averaged weights with the facts of the run.

        trained: clips, with earlier runs'. scores: of the last validation.
        """
        recipe = self.recipe
        facts = {
            "samples": str(trained),
            "steps": str(done),
            "size": f"{recipe.height}x{recipe.width_pixels}",
            "scenes": str(SCENES_VERSION),
            "date": time.strftime("%Y-%m-%d"),
            "licence": "Apache-2.0",
            "recipe": json.dumps(recipe.facts()),
            "validation": json.dumps(rounded(scores)),
        }
        twin = averaged(self.net, self.ema)
        assert isinstance(twin, LayerNet | OwnerNet | Centrifuge | MattingNet)
        weights.save(twin, self.out / WEIGHTS, facts, half=True)

    def save(self, done: int, seconds: float, open_line: dict[str, Any]) -> None:
        """Write all that resuming needs, whole or not at all.

        open_line: sums of the log's line that is not full.
        """
        state = {
            "recipe": self._asked(),
            "begun": self.begun,
            "done": done,
            "seconds": seconds,
            "open_line": open_line,
            "net": self.net.state_dict(),
            "ema": self.ema,
            "optimiser": self.optimiser.state_dict(),
        }
        with replacing(self.out / STATE) as partial:
            torch.save(state, partial)

    def load(self, device: torch.device) -> tuple[int, float, dict[str, Any]]:
        """Resume. Returns steps done, seconds spent, and sums of the log's line that is not full.

        Another recipe's run is an error.
        """
        path = self.out / STATE
        nothing: dict[str, Any] = {"sums": {}, "added": 0, "skipped": 0}
        if not path.is_file():
            return 0, 0.0, nothing
        try:
            state = torch.load(path, map_location=device, weights_only=True)
        except Exception as e:
            raise OutputError(f"{path} is damaged ({e}); delete it to begin anew.") from e
        if not isinstance(state, dict) or not state.keys() >= IN_STATE:
            raise OutputError(f"{path} is no state of a run; move it away to begin anew.")
        if not state["done"]:  # killed before its first save: any run may begin here
            return 0, 0.0, nothing
        if state["recipe"] != self._asked():
            raise OptionError(f"{self.out} holds a run with other options; give another --out.")
        if state.get("begun", self.begun) != self.begun:
            raise OptionError(
                f"{self.out} holds a run that began with other weights; give its --warm-start (or "
                "none, as it had), or another --out."
            )
        self.net.load_state_dict(state["net"])
        for key, value in state["ema"].items():
            self.ema[key].copy_(value)
        self.optimiser.load_state_dict(state["optimiser"])
        return int(state["done"]), float(state["seconds"]), state.get("open_line", nothing)

    def _asked(self) -> str:
        return json.dumps(self.recipe.facts(), sort_keys=True)


def cut_log(path: Path, done: int) -> None:
    """Take off the lines of steps after the one that a run is resumed from: they come again."""
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        whole, cut = text[: text.rfind("\n") + 1], text[text.rfind("\n") + 1 :]
        if not (cut.startswith(START) or START.startswith(cut)):  # of a run that was killed
            raise OutputError(f"{path} ends with a line that is no step's: {cut[:80]!r}.")
        lines = [x for x in whole.splitlines() if _step_of(x, path) <= done]
        write_text(path, "".join(f"{x}\n" for x in lines))


def _step_of(line: str, path: Path) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError) as e:
        raise OutputError(f"{path} holds a line that is no step's: {line[:80]!r}.") from e


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Add a line to the log."""
    with path.open("a", encoding="utf-8") as f:
        f.write(json.dumps(line) + "\n")


def rounded(values: dict[str, float]) -> dict[str, float]:
    """As many digits as a log needs."""
    return {k: round(float(v), 6) for k, v in values.items()}

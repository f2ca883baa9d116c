"""Table 3 of the paper at small scale: which 3 of the 5 frames are hidden in training.

usage: python examples/ablation_hiding.py OUT_DIR [--start small] [--steps 400] [--seeds 2]

random: any three; inpainting: the middle ones; prediction: the last or the first ones. Random and
prediction are scored by hiding the last frames, inpainting by the middle ones, as in the paper.
"""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from ablation import ablate, arguments, self_supervised

from omnimatte_cli.methods.coordination.windows import Hiding

if __name__ == "__main__":
    asked = arguments("Vary which frames are hidden.")
    base = self_supervised(asked)
    schemes = {scheme: replace(base, hiding=scheme) for scheme in get_args(Hiding)}
    ablate("hidden", schemes, asked)

"""Table 2 of the paper at small scale: how many of the 5 frames are hidden in training.

usage: python examples/ablation_hidden.py OUT_DIR [--start small] [--steps 400] [--seeds 2]

The first or last K frames are hidden; with K = 0 every frame is shown and reconstructed. Scored on
rendered scenes that no training uses: IoU of the resolved layers, and how much of the effects the
predicted layers hold as they are, in the right layer and in a wrong one.
"""

from __future__ import annotations

from dataclasses import replace

from ablation import ablate, arguments, self_supervised

if __name__ == "__main__":
    asked = arguments("Vary the number of hidden frames.")
    base = replace(self_supervised(asked), hiding="prediction")
    ablate("hidden frames", {f"{k} of 5": replace(base, hidden=k) for k in (0, 1, 3, 4)}, asked)

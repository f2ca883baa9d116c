"""The toy: alpha is the mask times the opacity."""

from __future__ import annotations

import numpy as np

from omnimatte_cli.arrays import Plate, to_float
from omnimatte_cli.matte.resolve import Layers
from omnimatte_cli.methods.base import Method, Separation
from omnimatte_cli.progress import Progress
from omnimatte_cli.shot import Shot
from tests.toy_method.options import Options


class ToyMethod(Method[Options]):
    """No network, no training."""

    def separate(self, shot: Shot, plate: Plate, progress: Progress) -> Separation:
        """Every mask is a layer."""
        progress.stage("cutting")

        def layers_at(t: int, frame: np.ndarray, image: np.ndarray) -> Layers:
            alpha = np.float32(self.options.opacity) * shot.masks.frame(t)
            colour = np.repeat(to_float(frame)[None], len(alpha), 0)
            return Layers(np.concatenate([colour, alpha[..., None]], -1))

        return Separation(layers_at, {"network": None})


METHOD = ToyMethod

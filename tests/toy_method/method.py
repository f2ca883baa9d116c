"""The toy: alpha is the mask times the opacity."""

from __future__ import annotations

import numpy as np

from omnimatte_cli.arrays import Plate, to_float
from omnimatte_cli.matte.resolve import FrameLayers
from omnimatte_cli.methods.base import Method, Separation
from omnimatte_cli.progress import Progress
from omnimatte_cli.shot import Shot
from tests.toy_method.options import Options


class ToyMethod(Method[Options]):
    """No network, no training."""

    def separate(self, shot: Shot, plate: Plate, progress: Progress) -> Separation:
        """Every mask is a layer."""
        progress.stage("cutting")

        def layers_at(t: int, frame: np.ndarray, image: np.ndarray) -> FrameLayers:
            masks = shot.masks.frame(t)
            alpha = np.round(255 * self.options.opacity * masks).astype(np.uint8)
            rgba = np.concatenate([np.repeat(frame[None], len(masks), 0), alpha[..., None]], -1)
            composite, clear = to_float(image), np.ones(frame.shape[:2], np.float32)
            for layer in to_float(rgba):
                a = layer[..., 3:]
                composite = composite + a * (layer[..., :3] - composite)
                clear = clear * (1 - a[..., 0])
            return FrameLayers(rgba, composite, clear)

        return Separation(layers_at, {"network": None})


METHOD = ToyMethod

"""The ownership method: one pass of the network over the clip, pooled over time, then resolved."""

from __future__ import annotations

from omnimatte_cli.arrays import Plate
from omnimatte_cli.errors import WeightsError
from omnimatte_cli.matte.ownership import working_plates
from omnimatte_cli.matte.pool import pool_over_time
from omnimatte_cli.methods.base import Method, Separation
from omnimatte_cli.methods.ownership.options import Options
from omnimatte_cli.progress import Progress
from omnimatte_cli.shot import Shot


class OwnershipMethod(Method[Options]):
    """Who owns each change, asked of the shipped network or of the one that --weights names."""

    def separate(self, shot: Shot, plate: Plate, progress: Progress) -> Separation:
        """Ask the network for every frame, pool its answers over time, and resolve."""
        net = self.run.ownership
        if net is None:
            raise WeightsError("This version ships no ownership weights: name some with --weights.")
        plates = working_plates(plate, shot.size, len(shot))
        stride = self.options.frame_stride or shot.frame_stride
        ownership = shot.ownership(net, plates, self.run.device, progress, stride)
        ownership = pool_over_time(ownership, shot.frames, plates, float(shot.fps), progress)
        facts = {"network": {"network": "ownership", "frame_stride": stride}}
        layers_at = shot.resolver(ownership, plates, self.run.solve, plate, self.run.cut_out)
        return Separation(layers_at, facts)


METHOD = OwnershipMethod

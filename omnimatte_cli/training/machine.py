"""The processes that train one network together."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Machine:
    """This process among those that train together (torchrun sets RANK and WORLD_SIZE)."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def join(cls, device: torch.device) -> Machine:
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls(0, 1, device)
        rank = int(os.environ["RANK"])
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(rank, world, device)

    def agree(self, wish: bool) -> bool:
        """Whether any process wishes it: all stop at the same step, or some wait for ever."""
        if self.world == 1:
            return wish
        wishes = torch.tensor([float(wish)], device=self.device)
        dist.all_reduce(wishes, dist.ReduceOp.MAX)
        return bool(wishes)

    def leave(self) -> None:
        if self.world > 1:
            dist.destroy_process_group()

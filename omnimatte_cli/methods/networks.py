"""The networks that every method may use, as they ship or as the user named them."""

from __future__ import annotations

import logging
from functools import cache

import torch

from omnimatte_cli.matte.bodies import CutOut, Matting, by_masks
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.methods import weights

log = logging.getLogger(__name__)


def ownership_network(network: str | None, name: str, device: torch.device) -> OwnerNet | None:
    """The ownership network on the device; None where none ships.

    network: the kind of weights that the method takes; name: those that were asked for.
    """
    asked = network == weights.OWNERSHIP and name not in ("auto", "none")
    name = name if asked else weights.OWNERSHIP
    if not asked and name not in weights.shipped_names():
        return None
    return weights.load_owner(weights.find(name, weights.OWNERSHIP)).to(device)


@cache
def body_matting() -> CutOut:
    """What cuts bodies out: the matting network; the masks themselves where none ships."""
    if weights.MATTING not in weights.shipped_names():
        log.warning("The matting network's weights are not there: bodies are as their masks are.")
        return by_masks
    return Matting(weights.load_matting(weights.find(weights.MATTING, weights.MATTING)))

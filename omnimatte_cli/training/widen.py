"""A larger network that computes the same as a smaller one: a start for training it on.

"Net2Net: Accelerating Learning via Knowledge Transfer" (Chen et al., ICLR 2016), section 2.2: every
channel is copied, and what reads it reads each copy by a random share. A wide network so begins
with what the narrow one has learned.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from omnimatte_cli.errors import OptionError
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.methods.coordination.network import LayerNet

UNEVEN = 0.5  # standard deviation of the shares by which copies are read, relative to an even split


@torch.no_grad()
def widen(narrow: LayerNet, width: int, seed: int = 0) -> LayerNet:
    """A network of `width` channels, a multiple of the narrow one's, that gives the same layers.

    The shares differ from one reading channel to the next (`seed` draws them), so that the copies
    drift apart when they are trained.
    """
    times, rest = divmod(width, narrow.width)
    assert times >= 1 and rest == 0, (width, narrow.width)
    wide = LayerNet(width, narrow.grid)
    generator = torch.Generator().manual_seed(seed)
    modules = dict(narrow.named_modules())
    state = wide.state_dict()
    for name, value in narrow.state_dict().items():
        owner, _, kind = name.rpartition(".")
        module = modules[owner]
        wanted = state[name].shape
        reads = 0 if isinstance(module, nn.ConvTranspose2d) else 1  # axis of the input channels
        if kind == "weight" and isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            value = _copied(value, 1 - reads, wanted[1 - reads])
            value = _shared_out(value, reads, wanted[reads], generator)
        else:
            value = _copied(value, value.ndim - 1, wanted[-1])
        if owner.endswith("attention.query"):
            # Every product of a query and a key comes `times` over; attention divides by the root.
            value = value / times**0.5
        state[name] = value
    wide.load_state_dict(state)
    return wide


@torch.no_grad()
def deepen(shallow: OwnerNet, deep: OwnerNet) -> None:
    """Put the weights of an ownership network into one with further blocks, in place.

    Blocks that see other frames take over those of the same reach, in order; those that see their
    own frame alone begin as if they were not there, unless both networks have equally many. Raises
    OptionError where the blocks through time differ, or where blocks would be lost.
    """
    places = [i for i, r in enumerate(deep.reaches) if r > 0]
    if shallow.reaches == deep.reaches:
        places = list(range(len(deep.reaches)))
    fits = shallow.reaches == tuple(deep.reaches[i] for i in places)
    if not fits or len(shallow.fine) > len(deep.fine) or shallow.motion > deep.motion:
        reaches = ",".join(map(str, shallow.reaches))
        raise OptionError(
            f"its blocks of attention do not fit; --set reaches={reaches} "
            f"--set fine={len(shallow.fine)} --set motion={str(shallow.motion).lower()} takes them"
        )
    state = deep.state_dict()
    for name, value in shallow.state_dict().items():
        kind, _, rest = name.partition(".")
        if kind == "attention":
            number, _, rest = rest.partition(".")
            name = f"attention.{places[int(number)]}.{rest}"
        if value.shape != state[name].shape:  # a convolution that reads more, first: not yet
            more = torch.zeros_like(state[name])
            more[:, -value.shape[1] :] = value
            value = more
        state[name] = value
    deep.load_state_dict(state)


def _copied(value: Tensor, axis: int, length: int) -> Tensor:
    return value.repeat_interleave(length // value.shape[axis], axis)


def _shared_out(value: Tensor, axis: int, length: int, generator: Generator) -> Tensor:
    """Copies along `axis` whose weights add up to the one they are copied from."""
    times = length // value.shape[axis]
    if times == 1:
        return value
    value = value.unsqueeze(axis + 1)
    shape = list(value.shape)
    shape[axis + 1] = times
    noise = torch.randn(shape, generator=generator) * UNEVEN
    share = (1 + noise - noise.mean(axis + 1, keepdim=True)) / times
    return (value * share).flatten(axis, axis + 1)

"""The Visual Centrifuge: sizes of the published network, parity of the loss, windows and layers.

The reference arrays are made-up clips, with losses and gradients computed in NumPy from the paper's
equations 2 and 3 by other code than ours.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from omnimatte_cli.errors import WeightsError
from omnimatte_cli.methods import weights
from omnimatte_cli.methods.centrifuge.canvases import (
    NORM,
    PARAMETERS,
    Prior,
    Scene,
    blank,
    edge_weights,
    gradients,
    gradients_adjoint,
    grown,
    means,
    solve,
)
from omnimatte_cli.methods.centrifuge.follow import (
    LARGER,
    LEAST_CANDIDATES,
    SEED,
    Start,
    at_size,
    best_followed,
    followed,
)
from omnimatte_cli.methods.centrifuge.layers import Unmixed, enlarged, recomposed
from omnimatte_cli.methods.centrifuge.losses import (
    RANGE,
    best_pair,
    centred,
    distance,
    distances,
    identity_loss,
    separation_loss,
    structure_loss,
)
from omnimatte_cli.methods.centrifuge.motion import main_motions, mean_along
from omnimatte_cli.methods.centrifuge.network import MINI, PAPER, Centrifuge, Predictor, Shape
from omnimatte_cli.methods.centrifuge.part import balance, part, unexplained, windowed
from omnimatte_cli.methods.centrifuge.predict import (
    SURE,
    TILE,
    WINDOW,
    cautious,
    matched,
    most_different,
    separate,
    spans,
    two_layers,
)
from omnimatte_cli.methods.centrifuge.refine import likely_colours, refine, split
from omnimatte_cli.methods.centrifuge.spectra import FASTEST, Pair, Spectrum, likely_pairs
from omnimatte_cli.progress import Silent

DATA = Path(__file__).parent / "data"
TINY = replace(MINI, stem=0.1, mixed=0.05, decoder=0.2)


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(DATA / "centrifuge_loss.npz", allow_pickle=False) as z:
        return dict(z)


def clip_of(array: np.ndarray) -> Tensor:
    """Channels first, as double."""
    return torch.from_numpy(array).double().movedim(-1, -3)


# ------------------------------------------------------------------------------------------ network


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.slow
def test_the_paper_network_has_the_published_sizes() -> None:
    """I3D's encoder has 12.29 M parameters; maps have the sizes of its table."""
    with torch.device("meta"):
        net = Centrifuge(PAPER)
        maps = net.predictor.encoder(torch.empty(1, 3, 32, 224, 224))
    assert parameters(net.predictor.encoder) == 12_287_264
    assert parameters(net.predictor.decoder) == pytest.approx(5.9e6, rel=0.01)
    assert net.corrector is not None and parameters(net) == 36_605_720
    assert {name: tuple(m.shape[1:]) for name, m in maps.items()} == {
        "1a": (64, 16, 112, 112),
        "2c": (192, 16, 56, 56),
        "3c": (480, 16, 28, 28),
        "4f": (832, 8, 14, 14),
        "5c": (1024, 4, 7, 7),
    }


@pytest.mark.slow
def test_the_paper_network_costs_what_was_counted() -> None:
    """4.5 + 6.2 GFLOP, a multiplication and an addition counted as one, of 16 frames of 64x64."""
    counted = []
    with torch.device("meta"):
        part = Predictor(3, PAPER)
        clip = torch.empty(1, 3, 16, 64, 64)
        for run in (part.encoder, part):
            with FlopCounterMode(display=False) as counter:
                run(clip)
            counted.append(counter.get_total_flops() / 1e9)
    encoder, both = counted
    assert encoder == pytest.approx(4.5, rel=0.05)
    assert both - encoder == pytest.approx(6.2, rel=0.1)


@pytest.mark.slow
def test_mini_is_a_twentieth_of_it() -> None:
    with torch.device("meta"):
        assert parameters(Centrifuge(MINI)) == 2_016_492


@pytest.mark.parametrize("shape", [MINI, TINY, replace(TINY, kernel=4, depth="5c", outputs=2)])
@pytest.mark.parametrize(
    "size",
    [pytest.param((8, 64, 64), marks=pytest.mark.slow), (5, 50, 37), (1, 33, 32)],
)
def test_a_clip_of_any_size_comes_back_at_that_size(
    shape: Shape, size: tuple[int, int, int]
) -> None:
    t, h, w = size
    with torch.device("meta"):
        out = Centrifuge(replace(shape, corrector=True))(torch.empty(2, t, 3, h, w))
    assert out.shape == (2, shape.outputs, t, 3, h, w)


def test_shapes_that_cannot_be_are_refused() -> None:
    for bad in ({"outputs": 1}, {"depth": "6a"}, {"kernel": 5}, {"mixed": 0.0}):
        with pytest.raises(ValueError, match="no such network"):
            replace(MINI, **bad)


def test_outputs_are_changes_of_the_input_and_corrections_are_added() -> None:
    torch.manual_seed(0)
    net = Centrifuge(replace(TINY, corrector=True)).eval()
    clip = torch.rand(1, 4, 3, 32, 32)
    assert net.corrector is not None
    with torch.no_grad():
        for part in (net.predictor, net.corrector):
            part.decoder.last.weight.zero_()
            part.decoder.last.bias.zero_()
        identity = net(clip)
        assert torch.allclose(identity, clip[:, None].expand_as(identity), atol=1e-6)
        net.corrector.decoder.last.bias.fill_(0.5)  # in [-1, 1]: a quarter in [0, 1]
        assert torch.allclose(net(clip), identity + 0.25, atol=1e-6)


@pytest.mark.slow
def test_the_paper_network_learns() -> None:
    """All 36.6 M parameters get a gradient, and a few steps of Adam lower the loss.

    Along the gradient itself a step is either lost in rounding or too long, as a CPU has it: maps
    are tiny here, and gradients steep.
    """
    torch.manual_seed(0)
    net = Centrifuge(PAPER)
    truth = torch.rand(2, 2, 8, 3, 32, 32)
    blend = truth.mean(1)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        optimiser.zero_grad(set_to_none=True)
        loss = separation_loss(truth, net(blend)).mean()
        losses.append(float(loss.detach()))
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
        optimiser.step()
    assert losses[-1] < 0.95 * losses[0], losses


def panned(large: np.ndarray, speed: tuple[float, float], size: tuple[int, int, int]) -> Tensor:
    """A picture through a window, in which it moves by `speed` (y, x) a frame: (T, 3, H, W)."""
    t, h, w = size
    frames = []
    for i in range(t):
        shift = np.float64([[1, 0, w / 2 - i * speed[1]], [0, 1, h / 2 - i * speed[0]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        frames.append(cv2.warpAffine(large, shift, (w, h), flags=flags))
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float()


def moving(speed: tuple[float, float], seed: int, size: tuple[int, int, int]) -> Tensor:
    """A smooth picture that moves with a speed (y, x) in pixels a frame, (T, 3, H, W)."""
    _, h, w = size
    rng = np.random.default_rng(seed)
    picture = cv2.GaussianBlur(rng.random((2 * h, 2 * w, 3)), (0, 0), 1.2)
    picture = (picture - picture.min()) / (picture.max() - picture.min())
    return panned(picture, speed, size)


def test_the_two_main_motions_of_a_blend_are_found() -> None:
    size = (8, 64, 96)
    clips = [moving((0.0, 0.0), 1, size), moving((0.5, -2.0), 2, size)]
    blend = (clips[0] + clips[1]) / 2
    speeds = main_motions(blend.transpose(0, 1)[None])
    assert torch.allclose(speeds[0], torch.tensor([[0.0, 0.0], [0.5, -2.0]]), atol=0.13)
    assert not main_motions(blend[:1].transpose(0, 1)[None]).any()  # one frame does not move


def test_the_mean_along_a_motion_keeps_what_moves_so() -> None:
    clip = moving((0.5, -2.0), 3, (8, 48, 64)).transpose(0, 1)[None]
    kept = mean_along(clip, torch.tensor([[0.5, -2.0]]))
    smeared = mean_along(clip, torch.tensor([[0.0, 0.0]]))
    assert float((kept - clip).abs().mean()) < 0.1 * float((smeared - clip).abs().mean())
    steady = torch.rand(1, 3, 1, 16, 16).expand(1, 3, 6, 16, 16)
    assert torch.allclose(mean_along(steady, torch.zeros(1, 2)), steady, atol=1e-5)


# --------------------------------------------------------------------------------------------- loss


def test_distance_by_hand() -> None:
    """d = [[-1, 0], [2, 1]]: |d| 4, |dx| 2, |dy| 4."""
    u = torch.tensor([[0.0, 1], [2, 4]])[None, None]
    v = torch.tensor([[1.0, 1], [0, 3]])[None, None]
    assert float(distance(u, v, "sum")) == 5
    assert float(distance(u, v)) == 2


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_loss_is_that_of_the_paper(reference: dict[str, np.ndarray], reduction) -> None:
    truth = torch.stack([clip_of(reference[f"four/V{i}"]) for i in (1, 2)])[None]
    outputs = clip_of(reference["four/outputs"])[None].requires_grad_(True)
    table = distances(truth, outputs, reduction)
    loss, pair = best_pair(table)
    wanted = {
        k.split("/")[2]: v for k, v in reference.items() if k.startswith(f"four/{reduction}/")
    }
    assert np.allclose(table[0].detach(), wanted["ell_V_by_output"], rtol=1e-6)
    assert float(loss.detach()) == pytest.approx(float(wanted["loss"]), rel=1e-6)
    assert pair[0].tolist() == wanted["best_pair"].tolist()
    (gradient,) = torch.autograd.grad(loss.sum(), outputs)
    theirs = clip_of(wanted["d_loss_d_outputs"])
    assert float((gradient[0] - theirs).abs().max()) < 1e-6 * float(theirs.abs().max()) + 1e-9


def test_the_training_loss_is_twice_that_in_zero_to_one(reference: dict[str, np.ndarray]) -> None:
    """The reported values are in [-1, 1]."""
    truth = torch.stack([clip_of(reference[f"four/V{i}"]) for i in (1, 2)])[None]
    outputs = clip_of(reference["four/outputs"])[None].requires_grad_(True)
    loss = separation_loss(truth, outputs)
    (gradient,) = torch.autograd.grad(loss.sum(), outputs)
    assert float(loss.detach()) == pytest.approx(RANGE * float(reference["four/mean/loss"]))
    theirs = RANGE * clip_of(reference["four/mean/d_loss_d_outputs"])
    assert float((gradient[0] - theirs).abs().max()) < 1e-8
    assert not gradient[0, [1, 3]].any()  # outputs that are of no pair
    identity = identity_loss(truth, clip_of(reference["four/mix"])[None])
    assert float(identity) == pytest.approx(RANGE * float(reference["four/mean/identity_loss"]))


def test_two_layers_do_not_share_an_output(reference: dict[str, np.ndarray]) -> None:
    truth = torch.stack([clip_of(reference[f"clash/V{i}"]) for i in (1, 2)])[None]
    table = distances(truth, clip_of(reference["clash/outputs"])[None], "sum")
    assert table.argmin(2).tolist() == [[0, 0]]
    loss, pair = best_pair(table)
    assert pair.tolist() == [[0, 2]] and float(loss) == 12.375


def test_brightness_does_not_choose_the_pair_of_the_structure_loss() -> None:
    """Outputs that have the wrong layer's brightness and the right one's edges."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(1, 2, 4, 3, 16, 16, generator=generator)
    truth = 0.3 * truth + torch.tensor([0.1, 0.6]).view(1, 2, 1, 1, 1, 1)
    outputs = centred(truth) + truth.flip(1).mean((-4, -2, -1), True)
    pair = best_pair(distances(centred(truth), centred(outputs)))[1]
    assert pair.tolist() == [[0, 1]]
    assert best_pair(distances(truth, outputs))[1].tolist() == [[1, 0]]
    offset = (truth[:, 0] - truth[:, 1]).mean((-4, -2, -1)).abs().mean()
    for weight in (0.0, 0.5, 1.0):  # two layers, in [-1, 1], half of the mean
        assert float(structure_loss(truth, outputs, weight)) == pytest.approx(
            float(2 * weight * offset), abs=1e-5
        )


# ---------------------------------------------------------------------------------------- inference


def test_the_most_different_outputs_are_chosen(reference: dict[str, np.ndarray]) -> None:
    outputs = clip_of(reference["four/outputs"])
    assert most_different(outputs) == tuple(reference["choose/pair_L1"].tolist())


def test_the_layer_with_less_motion_comes_first() -> None:
    still = torch.full((4, 3, 8, 8), 0.2)
    moving = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for outputs in (torch.stack([moving, still]), torch.stack([still, moving])):
        pair = two_layers(outputs)
        assert torch.equal(pair[0], still) and torch.equal(pair[1], moving)


def test_layers_differ_less_but_for_mean_colours() -> None:
    layers = 0.3 + 0.4 * torch.rand(2, 4, 3, 8, 8)
    layers[1] += 0.1
    found = cautious(layers)
    assert torch.allclose(found.mean(0), layers.mean(0), atol=1e-5)
    assert torch.allclose(found.mean((1, 3, 4)), layers.mean((1, 3, 4)), atol=1e-5)
    given, kept = (centred(x[0] - x[1]) for x in (layers, found))
    assert torch.allclose(kept, SURE * given, atol=1e-5)


@pytest.mark.parametrize("length", [1, 7, 16, 17, 24, 50, 300])
def test_windows_cover_every_place_and_overlap(length: int) -> None:
    found = spans(length, WINDOW)
    assert sorted({i for span in found for i in span}) == list(range(length))
    assert all(len(span) == min(length, WINDOW) for span in found)
    assert all(b.start < a.stop for a, b in itertools.pairwise(found))


class Shuffled(nn.Module):
    """Outputs are known functions of the input, in another order at every call."""

    shape = Shape(outputs=4)

    def __init__(self) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))
        self.rng = np.random.default_rng(5)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        outputs = [x, 1 - x, 0.5 * x, x * x]
        return torch.stack([outputs[i] for i in self.rng.permutation(4)], 1)


@pytest.mark.parametrize(
    "size",
    [
        (40, 32, 48),
        (WINDOW, 32, TILE + 100),
        pytest.param((20, TILE + 50, 300), marks=pytest.mark.slow),
    ],
)
def test_an_output_stays_the_same_layer_through_windows_and_tiles(size) -> None:
    t, h, w = size
    clip = torch.rand(t, 3, h, w, generator=torch.Generator().manual_seed(1))
    net = Shuffled()
    found = separate(net, clip)  # type: ignore[arg-type]
    assert net.calls > 1
    errors = [min(float((f - x).abs().max()) for f in found) for x in (clip, 1 - clip, clip * clip)]
    assert max(errors) < 0.02  # computed in bfloat16 where the CPU can


def test_matching_counts_only_what_is_known() -> None:
    a, b = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    a[1], b[1] = 1, 0  # frame 1 is not known, and says the contrary
    known = torch.stack([torch.zeros_like(a), torch.ones_like(b)])
    where = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    where[0] = True
    assert matched(known, torch.stack([b, a]), where) == [1, 0]


# ------------------------------------------------------------------------------------------- layers


def test_layers_blend_to_the_frame_and_stay_colours() -> None:
    rng = np.random.default_rng(4)
    frame = rng.random((20, 30, 3))
    frame[:5] = 1  # both layers must be white here
    frame[5:8] = 0
    for alpha in (0.2, 0.5, 0.8):
        first, second = recomposed(frame, rng.random((20, 30, 3)), rng.random((20, 30, 3)), alpha)
        assert min(first.min(), second.min()) >= 0 and max(first.max(), second.max()) <= 1
        assert np.abs((1 - alpha) * first + alpha * second - frame).max() < 1e-6


def test_a_layer_is_enlarged_with_its_own_edges() -> None:
    """Half of the picture is the layer's stripes, half the other's: its own come back sharp."""
    x = np.arange(64)[None].repeat(64, 0)
    stripes = (0.5 + 0.4 * np.sin(2 * np.pi * x / 7)).astype(np.float32)
    own = np.where(x < 32, stripes, 0.5)[..., None].repeat(3, 2).astype(np.float32)
    other = np.where(x < 32, 0.5, stripes)[..., None].repeat(3, 2).astype(np.float32)
    frame = 0.5 * (own + other)
    small, layer = (cv2.resize(a, (32, 32), interpolation=cv2.INTER_AREA) for a in (frame, own))
    found = enlarged(frame, small, layer)
    blurred = cv2.resize(layer, (64, 64), interpolation=cv2.INTER_CUBIC)
    inner = (slice(None), slice(4, 26))
    assert np.abs(found - own)[inner].mean() < 0.5 * np.abs(blurred - own)[inner].mean()
    assert np.abs(found - own)[:, 40:60].mean() < 0.02


def test_layers_of_a_frame_are_an_opaque_one_and_a_constant_one() -> None:
    rng = np.random.default_rng(6)
    small = rng.integers(0, 256, (3, 8, 12, 3), np.uint8)
    found = Unmixed(small, rng.random((2, 3, 8, 12, 3)).astype(np.float16), np.full(3, 0.4))
    frame = rng.integers(0, 256, (24, 36, 3), np.uint8)
    rgba = found.at(1, frame)
    assert rgba.shape == (2, 24, 36, 4) and rgba.dtype == np.float32
    assert np.allclose(rgba[0, ..., 3], 1) and np.allclose(rgba[1, ..., 3], 0.4)
    blended = 0.6 * rgba[0, ..., :3] + 0.4 * rgba[1, ..., :3]
    assert np.abs(blended - frame / 255).max() < 1e-5


# ------------------------------------------------------------------------------ weights, adaptation


def test_weights_come_back_and_foreign_ones_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = Centrifuge(replace(TINY, outputs=3))
    path = tmp_path / "mine.safetensors"
    weights.save(net, path, {"samples": "7"})
    file = weights.find(str(path), weights.CENTRIFUGE)
    back = weights.load_centrifuge(file)
    assert back.shape == net.shape and not back.training
    state = back.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    with pytest.raises(WeightsError, match="ownership network"):
        weights.find("ownership", weights.CENTRIFUGE)
    bad = replace(file, metadata=file.metadata | {"shape": '{"outputs": 1}'})
    with pytest.raises(WeightsError, match="size"):
        weights.load_centrifuge(bad)
    other = replace(file, metadata=file.metadata | {"shape": '{"outputs": 3}'})
    with pytest.raises(WeightsError, match="does not fit"):
        weights.load_centrifuge(other)


@pytest.mark.slow
def test_refining_tells_moving_scenes_apart() -> None:
    """From the blend as both answers, and the blend stays the clip."""
    size = (16, 48, 64)
    truth = torch.stack([moving((0.0, 0.0), 1, size), moving((0.5, -2.0), 2, size)])
    clip = truth.mean(0)
    start = torch.stack([clip, clip])
    alpha = torch.full((size[0],), 0.5)
    found = refine(clip, start, alpha, 20, 0, Silent())
    assert found.believed > 0.9
    assert found.disagreement[1] < 0.5 * found.disagreement[0]
    before, after = (separation_loss(truth[None], x[None]) for x in (start, found.layers))
    assert float(after) < 0.4 * float(before)
    assert float((found.layers.mean(0) - clip).abs().mean()) < 0.01
    colours, true = ((x[0] - x[1]).mean((0, 2, 3)) for x in (found.layers, truth))
    assert float((colours - true).abs().max()) < 0.05


@pytest.mark.parametrize("clip", [torch.rand(1, 3, 32, 48), torch.full((6, 3, 32, 48), 0.4)])
def test_a_frame_alone_and_a_flat_clip_stay_as_they_were(clip: Tensor) -> None:
    found = refine(clip, torch.stack([clip, clip]), torch.full((len(clip),), 0.5), 2, 0, Silent())
    assert found.believed == 0
    assert torch.allclose(found.layers, torch.stack([clip, clip]), atol=1e-4)


@pytest.mark.slow
def test_the_darkest_and_the_brightest_places_tell_how_bright_a_layer_is() -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(2, 4, 3, 16, 16, generator=generator).repeat_interleave(4, -1)
    patches = patches.repeat_interleave(4, -2)
    bright, dark = patches[0] ** 0.5, patches[1] ** 3  # means 2/3 and 1/4
    truth = torch.stack([bright, dark])
    clip = truth.mean(0)
    apart = bright - dark
    lost = apart.mean((0, 2, 3), keepdim=True)
    half = torch.full((4,), 0.5)
    found = likely_colours(split(clip, apart - lost, half))
    assert found.shape == (1, 3, 1, 1)
    assert float((found - lost).abs().max()) < 0.3 * float(lost.abs().min())
    same = likely_colours(split(clip, lost - apart, half))  # the layers the other way round
    assert torch.allclose(same, -found, atol=1e-6)


def test_scenes_that_rest_are_left_as_they_were() -> None:
    """One scene that moves as a whole has no second motion, and layers stay the given ones."""
    clip = moving((0.3, 1.0), 1, (10, 48, 64))
    found = refine(clip, torch.stack([clip, clip]), torch.full((10,), 0.5), 3, 0, Silent())
    assert found.believed < 0.1
    assert float((found.layers - clip).abs().mean()) < 0.01


@pytest.mark.parametrize("speeds", [((0.0, 0.25), (-1.5, 2.5)), ((0.0, 0.0), (1.0, -2.75))])
def test_the_pair_of_motions_that_explains_the_clip_is_found(speeds) -> None:
    size = (16, 64, 96)
    clip = (moving(speeds[0], 1, size) + moving(speeds[1], 2, size)) / 2
    found = likely_pairs(clip, 3)[0]
    assert torch.allclose(found.speeds, torch.tensor(speeds), atol=0.2)
    assert found.left < 0.75
    alone = likely_pairs(moving(speeds[1], 2, size), 1)[0].single
    assert torch.allclose(alone, torch.tensor(speeds[1]), atol=0.2)


def test_what_two_motions_explain_is_that_of_least_squares() -> None:
    """The closed form beside a solution by matrices, frequency by frequency."""
    spectrum = Spectrum(moving((0.5, 1.0), 1, (12, 32, 48)) + moving((0.0, -1.0), 2, (12, 32, 48)))
    speeds = torch.tensor([[0.4, 0.9], [0.0, -0.6]])
    means = spectrum.along(speeds)
    explained = spectrum.both(speeds[0], speeds[1:], means[0], means[1:])
    phase = (speeds @ spectrum.turn)[:, None] * spectrum.time[:, None]
    basis = torch.polar(torch.ones_like(phase), -phase).permute(2, 1, 0).to(torch.complex128)
    values = spectrum.values.t()[..., None].to(torch.complex128)
    fitted = basis @ torch.linalg.lstsq(basis, values).solution
    share = fitted.abs().square().mean((1, 2))
    # Where both are nearly the same the closed form is cautious.
    clear = ((phase[0] - phase[1]).abs().amax(0) > 4).double()
    weight = spectrum.weight.clone()
    spectrum.weight = (weight * clear).float()
    explained = spectrum.both(speeds[0], speeds[1:], means[0], means[1:])
    assert float(explained) == pytest.approx(float((spectrum.weight * share).sum()), rel=0.05)


def test_the_grid_of_speeds_is_that_of_single_ones() -> None:
    spectrum = Spectrum(moving((0.5, 1.0), 1, (6, 32, 48)))
    line = torch.linspace(-FASTEST, FASTEST, 5)
    speeds = torch.cartesian_prod(line, line)
    assert torch.allclose(spectrum.grid(line), spectrum.along(speeds), atol=1e-4)


def shaky(seed: int, places: np.ndarray, size: tuple[int, int]) -> Tensor:
    """A soft random picture seen from `places` (T, 2), pixels y and x: (T, 3, H, W)."""
    h, w = size
    large = np.random.default_rng(seed).random((h + 160, w + 160, 3))
    large = cv2.GaussianBlur(large, (0, 0), 2)
    large = (large - large.min()) / (large.max() - large.min())
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    maps = [np.float64([[1, 0, 80 + x], [0, 1, 80 + y]]) for y, x in places]
    frames = [cv2.warpAffine(large, m, (w, h), flags=flags) for m in maps]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float()


def start_of(clip: torch.Tensor, paths: torch.Tensor, alpha: torch.Tensor) -> Scene:
    """Canvases that are a clip's means along two motions. paths: (T, 2, 2), how far each has gone
    at every frame, pixels (y, x)."""
    t, _, h, w = clip.shape
    motion = torch.zeros(t, 2, PARAMETERS)
    motion[..., :2] = paths[t // 2] - paths
    scene = blank(motion, torch.stack([1 - alpha, alpha], 1), (h, w))
    scene.canvases = means(scene, clip)
    return scene


def left(scene: Scene, clip: torch.Tensor) -> float:
    """Mean difference of a scene's blend from the clip."""
    return float(scene.residual(clip).abs().mean())


def start_at(speeds: list[list[float]], first: int, stop: int) -> Start:
    return Start(torch.tensor(speeds), torch.zeros(2), slice(first, stop), 1.0)


@pytest.mark.slow
def test_a_camera_that_turns_back_and_rests_is_followed() -> None:
    """Steady speeds would miss it by 20 pixels."""
    x = np.concatenate([1.5 * np.arange(24), np.full(12, 36.0), 36 - 1.2 * np.arange(1, 13)])
    places = np.stack([np.zeros(48), x], 1)
    size = (48, 64)
    clip = (shaky(1, 0 * places, size) + shaky(2, places, size)) / 2
    alpha = torch.full((48,), 0.5)
    scene = followed(clip, start_at([[0.0, 0.0], [0.0, -1.5]], 0, 24), alpha)
    gone = LARGER * (scene.motion[..., 1] - scene.motion[0, :, 1])
    assert float((gone[:, 0]).abs().max()) < 0.5
    assert float((gone[:, 1] - torch.from_numpy(x)).abs().max()) < 0.5
    assert left(scene, at_size(clip, LARGER)[0]) < 0.02


@pytest.mark.slow
def test_canvases_choose_among_likely_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pair that a spectrum takes for the best is not, in either of the clip's windows."""
    size = (30, 48, 64)
    right = torch.tensor([[0.0, 0.0], [0.5, -1.5]])
    clip = (moving((0.0, 0.0), 1, size) + moving((0.5, -1.5), 2, size)) / 2
    wrong = [torch.tensor(x) for x in ([[0.0, 0.0], [-1.0, 1.0]], [[0.5, -1.5], [1.5, 0.0]])]

    def pairs(window: Tensor, count: int) -> list[Pair]:
        assert len(window) == SEED and count >= LEAST_CANDIDATES
        return [Pair(x, torch.zeros(2), 0.1 * k) for k, x in enumerate([*wrong, right])]

    monkeypatch.setattr("omnimatte_cli.methods.centrifuge.follow.likely_pairs", pairs)
    start, scene = best_followed(clip, torch.full((30,), 0.5))
    assert torch.equal(start.speeds, right)
    assert left(scene, at_size(clip, LARGER)[0]) < 0.02


@pytest.mark.slow
def test_motions_that_hardly_explained_their_window_are_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = (12, 48, 64)
    clip = (moving((0.0, 0.0), 1, size) + moving((0.5, -1.5), 2, size)) / 2
    alpha = torch.full((12,), 0.5)
    start, scene = best_followed(clip, alpha)
    assert start.left < 0.6
    for left, believed in ((start.left, 1.0), (0.8, 0.5), (0.9, 0.0)):
        given = (replace(start, left=left), scene)
        monkeypatch.setattr(
            "omnimatte_cli.methods.centrifuge.part.best_followed", lambda *_, given=given: given
        )
        assert float(part(clip, alpha).believed.mean()) == pytest.approx(believed, abs=0.05)


@pytest.mark.slow
def test_windows_have_what_changes_in_the_clip() -> None:
    """A place that is another one in the clip's second half: canvases of all frames hold a mean."""
    x = 0.8 * np.arange(64)
    size = (48, 64)
    rests = shaky(1, np.zeros((64, 2)), size)
    rests[32:, :, 12:36, 20:44] = shaky(5, np.zeros((32, 2)), size)[:, :, 12:36, 20:44]
    passes = shaky(2, np.stack([0 * x, x], 1), size)
    clip, true = (rests + passes) / 2, rests - passes
    alpha = torch.full((64,), 0.5)
    half = followed(clip, start_at([[0.0, 0.0], [0.0, -0.8]], 20, 44), alpha)
    scene = half.enlarged(size)
    layers = scene.layers(scene.canvases, scene.grids())

    def error(difference: Tensor) -> float:
        wrong = difference - true
        return float((wrong - wrong.mean((0, 2, 3), keepdim=True)).abs().mean())

    assert error(windowed(scene, clip)) < 0.8 * error(layers[0] - layers[1])


@pytest.mark.slow
def test_canvases_are_found_with_motions_that_shake() -> None:
    """Each layer but for its mean colour, from speeds that are right on average alone."""
    rng = np.random.default_rng(3)
    shaken, size = [], (16, 64, 64)
    for seed, speed in ((1, 0.0), (2, 2.0)):
        places = speed * np.arange(size[0]) + rng.normal(0, 0.5, size[0])
        large = cv2.GaussianBlur(np.random.default_rng(seed).random((64, 160, 3)), (0, 0), 2)
        large = (large - large.min()) / (large.max() - large.min())
        maps = [np.float64([[1, 0, 40 - x], [0, 1, 0]]) for x in places]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        frames = [cv2.warpAffine(large, m, size[:0:-1], flags=flags) for m in maps]
        shaken.append(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float())
    clip = torch.stack(shaken).mean(0)
    found = part(clip, torch.full((16,), 0.5))
    true = shaken[0] - shaken[1]
    error = found.difference - true
    error = error - error.mean((0, 2, 3), keepdim=True)
    assert float(error.abs().mean()) < 0.35 * float(true.abs().mean())
    assert float(found.believed.min()) > 0.9


def leaf_scene(seed: int, speed: tuple[float, float], size: tuple[int, int, int]) -> Tensor:
    """Opaque shapes over each other, which pass at `speed` (y, x) pixels a frame: (T, 3, H, W)."""
    _, h, w = size
    rng = np.random.default_rng(seed)
    large = np.full((2 * h, 2 * w, 3), rng.uniform(0.2, 0.8, 3))
    for _ in range(25):
        centre = rng.uniform(0, 1, 2) * (2 * w, 2 * h)
        corners = centre + rng.uniform(-0.35, 0.35, (4, 2)) * (w, h)
        cv2.fillConvexPoly(large, cv2.convexHull(np.int32(corners)), rng.uniform(0.1, 0.9, 3))
    large = cv2.GaussianBlur(large, (0, 0), 0.7)
    return panned(large, speed, size)


@pytest.mark.slow
def test_large_areas_follow_from_edges() -> None:
    """Scenes that move by a tenth of their areas' size: the motion alone leaves areas blended."""
    size = (12, 48, 64)
    truth = torch.stack([leaf_scene(1, (0.0, 0.0), size), leaf_scene(2, (0.0, 0.8), size)])
    clip, alpha = truth.mean(0), torch.full((size[0],), 0.5)
    paths = torch.zeros(size[0], 2, 2)
    paths[:, 1, 1] = 0.8 * torch.arange(size[0])

    def structure(layers: Tensor) -> float:
        return float(structure_loss(truth[None], layers[None], 0.0))

    difference = part(clip, alpha).difference
    with_edges = structure(split(clip, difference, alpha))
    plain = start_of(clip, paths, alpha)
    prior = Prior(plain.canvases, 1e-3 * size[0])
    solve(plain, clip, torch.ones_like(clip[:, :1]), prior, 150)
    without = structure(plain.layers(plain.canvases, plain.grids()))
    assert with_edges < 0.3 * structure(torch.stack([clip, clip]))
    assert with_edges < 0.6 * without


def test_tied_canvases_move_alike() -> None:
    """What a single motion explains is not what two do that began as one."""
    size = (8, 32, 48)
    clip = (moving((0.0, 0.0), 1, size) + moving((0.0, 1.5), 2, size)) / 2
    alpha = torch.full((8,), 0.5)
    tied = followed(clip, start_at([[0.0, 0.7], [0.0, 0.7]], 0, 8), alpha, tied=True)
    assert torch.equal(tied.motion[:, 0], tied.motion[:, 1])
    two = followed(clip, start_at([[0.0, 0.0], [0.0, 1.5]], 0, 8), alpha)
    small = at_size(clip, LARGER)[0]
    assert left(two, small) < 0.5 * left(tied, small)


def test_gradients_and_their_transpose() -> None:
    generator = torch.Generator().manual_seed(0)
    x, dy, dx = (torch.randn(2, 3, 7, 5, generator=generator).double() for _ in range(3))
    gy, gx = gradients(x)
    assert torch.equal(gy[..., :-1, :], x[..., 1:, :] - x[..., :-1, :])
    assert torch.equal(gx[..., :-1], x[..., 1:] - x[..., :-1])
    forward = (gy * dy).sum() + (gx * dx).sum()
    assert torch.allclose(forward, (x * gradients_adjoint(dy, dx)).sum())


def test_reweighted_squares_are_the_power_of_an_edge() -> None:
    """Where all colours step by h, weight times h squared is h to the power of NORM."""
    canvas = torch.zeros(2, 3, 4, 6)
    canvas[..., 3:] = 0.5
    weights_ = edge_weights(canvas, 1e-6)
    assert weights_.shape == (2, 1, 4, 6)
    assert torch.allclose(weights_[..., 2] * 0.5**2, torch.tensor(0.5**NORM))


def test_a_grown_canvas_shows_the_frames_the_same() -> None:
    clip = moving((0.0, 1.0), 1, (6, 32, 48))
    paths = torch.zeros(6, 2, 2)
    paths[:, 1, 1] = torch.arange(6.0)
    alpha = torch.full((6,), 0.5)
    small = F.interpolate(clip, scale_factor=0.5, mode="area")
    first, larger = start_of(small, paths / 2, alpha), start_of(clip, paths, alpha)
    first.canvases = F.avg_pool2d(first.canvases, 9, 1, 4, count_include_pad=False)
    larger.canvases = grown(first, larger)
    large = larger.layers(larger.canvases, larger.grids())[1]
    seen = F.interpolate(large, scale_factor=0.5, mode="area")
    given = first.layers(first.canvases, first.grids())[1]
    inner = (..., slice(2, -2), slice(2, -2))
    assert float((seen - given)[inner].abs().mean()) < 0.05 * float(given.std())


def test_two_motions_are_told_where_they_differ() -> None:
    """A camera that rests for half of the clip says nothing against them there."""
    one = torch.full((40,), 0.05)
    two = torch.cat([torch.full((20,), 0.02), torch.full((20,), 0.05)])
    assert unexplained(two, one) == pytest.approx(0.4)
    assert unexplained(one, one) == 1
    assert unexplained(0.001 * one, 0.01 * one) == 1  # one motion explains the clip


def test_a_layer_without_edges_is_not_believed() -> None:
    scene = moving((0.0, 0.0), 1, (2, 32, 48))
    faint = 0.5 + 0.3 * (scene - 0.5)
    assert balance(torch.stack([scene, scene.flip(-1)])) == pytest.approx(1, abs=0.01)
    assert balance(torch.stack([scene, faint])) == pytest.approx(0.3, abs=0.01)
    assert balance(torch.stack([scene, torch.full_like(scene, 0.5)])) == 0


def test_any_share_splits_to_the_same_blend() -> None:
    clip, difference = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8) - 0.5
    alpha = torch.tensor([0.2, 0.4, 0.6, 0.8])
    first, second = split(clip, difference, alpha)
    share = alpha[:, None, None, None]
    assert torch.allclose((1 - share) * first + share * second, clip, atol=1e-6)
    assert torch.allclose(first - second, difference, atol=1e-6)

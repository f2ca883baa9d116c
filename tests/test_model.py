"""The network and the losses against numbers that the authors' code computed, and its shortcuts
against the plain computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from omnimatte_cli.matte import over as composite
from omnimatte_cli.methods.coordination import losses
from omnimatte_cli.methods.coordination.checkpoint import import_checkpoint
from omnimatte_cli.methods.coordination.network import LayerNet, hidden_frames
from omnimatte_cli.methods.weights import find, load
from tests.oracle import DATA, write_checkpoint

HIDDEN = slice(2, 5)


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    """The oracle's arrays as (B, T, C, H, W) or (B, N, T, C, H, W) in [0, 1]."""
    z = np.load(DATA / "oracle_64x96.npz")
    unit = {
        k: (torch.from_numpy(z[k].astype(np.float32)) + 1) / 2 for k in ("frame", "bg", "recon")
    }
    out = {k: v.permute(0, 2, 1, 3, 4) for k, v in unit.items()}
    out["rgba"] = (torch.from_numpy(z["rgba"]).permute(0, 2, 3, 1, 4, 5) + 1) / 2
    out["mask"] = torch.from_numpy(z["mask"])[:, :, :, None].float()
    out["hidden"] = torch.from_numpy(z["valid"] == 0)[None]
    for name in ("loss_recon", "loss_l0", "loss_l1", "loss_mask"):
        out[name] = torch.tensor(float(z[name]))
    return out


@pytest.fixture(scope="module")
def oracle_net(tmp_path_factory: pytest.TempPathFactory) -> LayerNet:
    folder = tmp_path_factory.mktemp("oracle")
    out = folder / "net.safetensors"
    facts = import_checkpoint(write_checkpoint(folder / "checkpoint"), out)
    assert facts["parameters"] == "7365892" and facts["width"] == "64"
    return load(find(str(out)))


def test_network_matches_the_authors(oracle_net: LayerNet, reference: dict[str, Tensor]) -> None:
    with torch.no_grad():
        rgba = oracle_net(reference["frame"], reference["mask"], reference["hidden"])
    error = 2 * (rgba - reference["rgba"][:, :, HIDDEN]).abs().max()
    assert error < 1e-4, error


def test_composite_matches_the_authors(reference: dict[str, Tensor]) -> None:
    result = composite.over(reference["rgba"], reference["bg"])
    assert torch.allclose(result, reference["recon"], atol=1e-6)


@pytest.mark.parametrize(("rule", "expected"), [("overlap", None), ("any", 1.9876287)])
def test_reconstruction_loss_under_both_rules(reference, rule, expected) -> None:
    weight = losses.object_weight(reference["mask"][:, :, HIDDEN], rule)
    result = losses.reconstruction(
        reference["recon"][:, HIDDEN], reference["frame"][:, HIDDEN], weight
    )
    expected = float(reference["loss_recon"]) if expected is None else expected
    assert float(result) == pytest.approx(expected, abs=1e-4)


def test_sparsity_and_mask_losses_match_the_authors(reference: dict[str, Tensor]) -> None:
    alpha, mask = reference["rgba"][:, :, HIDDEN, 3:], reference["mask"][:, :, HIDDEN]
    l1, l0 = losses.sparsity(alpha, mask, total=5)
    assert float(l1) == pytest.approx(float(reference["loss_l1"]), abs=1e-4)
    assert float(l0) == pytest.approx(float(reference["loss_l0"]), abs=1e-4)
    bootstrap = losses.mask_bootstrap(alpha, mask, total=5)
    assert float(bootstrap) == pytest.approx(float(reference["loss_mask"]), abs=1e-4)


def plain_forward(net: LayerNet, frames: Tensor, masks: Tensor, hidden: Tensor) -> Tensor:
    """The network written out: every frame encoded, every frame decoded, no sharing at all."""
    b, t, _, height, width = frames.shape
    h, w = height // 16, width // 16
    layers = []
    shown = torch.where(hidden[:, :, None, None, None], torch.zeros_like(frames), frames)
    for i in range(masks.shape[1]):
        image, skip = net.image_encoder(shown.flatten(0, 1) * 2 - 1)
        mask, _ = net.mask_encoder(masks[:, i].flatten(0, 1) * 2 - 1)
        seen = torch.where(hidden.flatten()[:, None], net.hidden, net.visible)
        image = (image + seen[:, :, None, None]).unflatten(0, (b, t)).permute(0, 1, 3, 4, 2)
        mask = mask.unflatten(0, (b, t)).permute(0, 1, 3, 4, 2)
        keys = (image + net.key_positions(t, (h, w))).clamp(-2, 2).flatten(1, 3)
        x = (mask + net.query_positions(t, (h, w))).clamp(-2, 2).flatten(1, 3)
        values = image.clamp(-2, 2).flatten(1, 3)
        for block in net.blocks:
            y = block.norms[0](x)
            x = x + block.self_attention(y, y, y)
            x = x + block.cross_attention(block.norms[1](x), keys, values)
            x = x + block.mlp(block.norms[2](x))
        x = net.norm(x).transpose(1, 2).unflatten(2, (t, h, w)).transpose(1, 2).flatten(0, 1)
        for conv, norm in zip(net.decoder.convs, net.decoder.norms, strict=True):
            x = F.relu(norm(conv(x)))
        x = F.relu(net.decoder.last_norm(net.decoder.last(torch.cat([x, skip], 1))))
        layers.append(torch.tanh(net.decoder.rgba(x).clamp(-3, 3)).unflatten(0, (b, t)))
    return (torch.stack(layers, 1) + 1) / 2


def random_batch(seed: int, b: int = 2, n: int = 2, size: tuple[int, int] = (32, 48)):
    g = torch.Generator().manual_seed(seed)
    frames = torch.rand(b, 5, 3, *size, generator=g)
    masks = (torch.rand(b, n, 5, 1, *size, generator=g) > 0.5).float()
    return frames, masks


@pytest.mark.parametrize("hidden_at", [[[2, 3, 4], [0, 1, 2]], [[0, 2, 4], [1, 2, 3]], [[0], [4]]])
def test_shared_blank_and_hidden_only_decoding_equal_the_plain_network(hidden_at) -> None:
    torch.manual_seed(0)
    net = LayerNet(16, (2, 3)).eval()
    frames, masks = random_batch(1)
    hidden = torch.zeros(2, 5, dtype=torch.bool)
    for row, places in enumerate(hidden_at):
        hidden[row, places] = True
    with torch.no_grad():
        fast = net(frames, masks, hidden)
        slow = plain_forward(net, frames, masks, hidden)
        k = hidden_frames(hidden)
        first = net(frames, masks, hidden, k[:, :1])
    expected = torch.stack([slow[row][:, k[row]] for row in range(2)])
    assert torch.allclose(fast, expected, atol=1e-5)
    assert torch.allclose(first, expected[:, :, :1], atol=1e-5)


def test_hidden_pixels_and_other_objects_are_never_seen() -> None:
    torch.manual_seed(0)
    net = LayerNet(16, (2, 3)).eval()
    frames, masks = random_batch(2)
    hidden = torch.tensor([[False, False, True, True, True]] * 2)
    changed = frames.clone()
    changed[:, 2:] = torch.rand_like(changed[:, 2:])
    with torch.no_grad():
        first = net(frames, masks, hidden)
        assert torch.equal(first, net(changed, masks, hidden))
        alone = net(frames, masks[:, :1], hidden)
    assert torch.allclose(first[:, :1], alone, atol=1e-6)


@pytest.mark.parametrize("width", [8, 16, 32])
def test_narrow_networks_and_other_sizes(width: int) -> None:
    net = LayerNet(width, (2, 2)).eval()
    frames, masks = random_batch(3, b=1, n=3, size=(48, 64))
    hidden = torch.tensor([[True, False, True, False, True]])
    with torch.no_grad():
        rgba = net(frames, masks, hidden)
    assert rgba.shape == (1, 3, 3, 4, 48, 64)
    assert float(rgba.min()) >= 0 and float(rgba.max()) <= 1

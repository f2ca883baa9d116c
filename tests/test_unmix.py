"""`omnimatte unmix` as a user runs it, the clips that the centrifuge learns from, its training."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from omnimatte_cli.cli import app
from omnimatte_cli.errors import OptionError, VideoError
from omnimatte_cli.media.read import iter_frames
from omnimatte_cli.methods import weights
from omnimatte_cli.methods.centrifuge.layers import Unmixed
from omnimatte_cli.methods.centrifuge.losses import separation_loss
from omnimatte_cli.methods.centrifuge.network import MINI, WIDE, Centrifuge
from omnimatte_cli.progress import Silent
from omnimatte_cli.synth.blends import ALPHA, KINDS, blend, random_blends
from omnimatte_cli.synth.clips import ClipOptions, procedural_clip, rendered_clips
from omnimatte_cli.synth.seeds import VALIDATION_SEEDS
from omnimatte_cli.training import blends as training
from omnimatte_cli.training import loop
from omnimatte_cli.training.blends import ClipPool, cut, fitted, make_chunk, shape_of
from omnimatte_cli.training.loop import new_network, pretrain
from omnimatte_cli.training.recipe import BlendRecipe, Recipe, make_recipe
from tests.conftest import encode

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SMALL = ClipOptions(frames=6, height=40, width=48)
TINY = BlendRecipe(
    height=32, width_pixels=32, steps=3, batch_size=2, chunk=3, rendered=1, pool=2, reuse=8.0,
    frames=4, warmup=1, validate_steps=100, ema=0.5,
)  # fmt: skip


def run(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in args])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def blended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    """A lossless folder of 12 frames of 96x64, and the clips that it blends at 0.6 and 0.4."""
    options = ClipOptions(frames=12, height=64, width=96)
    first, second = (procedural_clip(seed, options) for seed in (3, 8))
    folder = tmp_path_factory.mktemp("blended") / "shot"
    folder.mkdir()
    for t, (a, b) in enumerate(zip(first, second, strict=True)):
        image = (0.6 * a + 0.4 * b + 0.5).astype(np.uint8)
        assert cv2.imwrite(str(folder / f"{t:05d}.png"), np.ascontiguousarray(image[..., ::-1]))
    return folder, first, second


@pytest.fixture(scope="module")
def result(blended, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unmixed") / "out"
    code, text = run("unmix", blended[0], "-o", out, "--size", "96x64", "--iterations", 3)
    assert code == 0, text
    assert "2 layers of 12 frames" in text and "layer2's share" in text
    return out


# ------------------------------------------------------------------------------------------ command


def test_a_result_holds_two_layers_that_blend_to_the_input(blended, result: Path) -> None:
    facts = json.loads((result / "manifest.json").read_text(encoding="utf-8"))
    assert facts["objects"]["names"] == ["layer1", "layer2"]
    assert facts["method"] == "centrifuge" and facts["options"]["iterations"] == 3
    assert facts["alpha"] == [0.5] * 12
    assert facts["psnr"]["blend"] > 45
    assert len(facts["losses"]) == 2
    frames = list(iter_frames(blended[0]))
    for t in (0, 7):
        pair = [
            cv2.imread(str(result / "layers" / name / f"{t:05d}.png"), -1).astype(float) / 255
            for name in ("layer1", "layer2")
        ]
        assert (pair[0][..., 3] == 1).all()
        alpha = pair[1][..., 3:]
        assert np.ptp(alpha) < 1.5 / 255  # a level is chosen at each pixel
        assert np.abs(alpha - facts["alpha"][t]).max() < 1.5 / 255
        picture = ((1 - alpha) * pair[0][..., :3] + alpha * pair[1][..., :3])[..., ::-1]
        assert np.abs(picture - frames[t] / 255).max() < 3 / 255
    assert 0 <= facts["motions_believed"] <= 1
    still = cv2.imread(str(result / "background.png"))
    written = {
        name: [cv2.imread(str(result / f"layers/{name}/{t:05d}.png")) for t in range(12)]
        for name in ("layer1", "layer2")
    }
    assert np.abs(still - np.median(np.stack(written["layer1"][::2]), 0)).max() <= 0.5
    for name in ("layer1", "layer2", "composite", "preview"):
        movie = list(iter_frames(result / f"{name}.mp4"))
        assert len(movie) == 12
        for frame, picture in zip(movie, written.get(name, []), strict=False):
            assert np.abs(frame[..., ::-1].astype(int) - picture).mean() < 6  # of H.264


def test_one_layer_can_be_taken_off_a_result(result: Path, tmp_path: Path) -> None:
    out = tmp_path / "first.mp4"
    code, text = run("compose", result, "-o", out, "--remove", "layer2")
    assert code == 0, text
    first = cv2.imread(str(result / "layers/layer1/00004.png"))[..., ::-1]
    assert np.abs(list(iter_frames(out))[4].astype(int) - first).mean() < 6


def test_the_same_input_gives_the_same_layers(blended, result: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    args = ("unmix", blended[0], "-o", out, "--size", "96x64", "--iterations", 3, "-q")
    assert run(*args) == (0, "")
    for name in ("layer1", "layer2"):
        files = [folder / "layers" / name / "00006.png" for folder in (out, result)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_given_share_and_a_part_of_the_clip(
    blended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "part"
    made, at = [], Unmixed.at
    monkeypatch.setattr(Unmixed, "at", lambda self, t, frame: made.append(t) or at(self, t, frame))
    args = ("unmix", blended[0], "-o", out, "--frames", "2:8", "--alpha", 0.4, "--json")
    code, text = run(*args)
    assert code == 0, text
    facts = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert facts["input"]["frames"] == 6 and set(facts["alpha"]) == {0.4}
    assert sorted(made) == list(range(6))  # each frame's layers once
    assert len(list((out / "layers/layer1").iterdir())) == 6


def test_mistakes_get_a_sentence(blended, result: Path, tmp_path: Path) -> None:
    before = (result / "manifest.json").read_bytes()
    source = blended[0]
    for args, words in (
        (("-o", result), "not empty"),
        (("-o", tmp_path / "a", "--alpha", 1.5), "--alpha must be from"),
        (("-o", tmp_path / "a", "--size", "50x50"), "--size must be"),
        (("-o", tmp_path / "a", "--iterations", -1), "--iterations"),
        (("-o", tmp_path / "a", "--weights", "ownership"), "ownership network"),
        (("-o", tmp_path / "a", "--weights", "nothing"), "No weights file"),
        (("-o", tmp_path / "a", "--frames", "5:2"), "empty"),
    ):
        code, text = run("unmix", source, *args)
        assert code == 2 and words in text and len(text.strip().splitlines()) == 1, text
    assert (result / "manifest.json").read_bytes() == before
    assert not (tmp_path / "a").exists()


def test_the_shipped_weights_are_wide_and_better_than_the_blend() -> None:
    """On held-out procedural pairs, the two outputs without knowledge of the truth."""
    net = weights.load_centrifuge(weights.find("centrifuge", weights.CENTRIFUGE))
    assert net.shape == WIDE
    recipe = replace(TINY, height=64, width_pixels=64, frames=8, chunk=16)
    clips = make_chunk(recipe, 0, VALIDATION_SEEDS).float()[:, :8, :, :64, :64] / 255
    batch = blend(clips[:8], clips[8:])
    scores, _ = training.blend_scores(net, batch, CPU)
    assert scores["chosen"] < 0.95 * scores["identity"]


# -------------------------------------------------------------------------------------------- clips


def test_clips_follow_from_their_seeds() -> None:
    first = procedural_clip(5, SMALL)
    assert first.shape == (6, 40, 48, 3) and first.dtype == np.uint8
    assert np.array_equal(first, procedural_clip(5, SMALL))
    assert not np.array_equal(first, procedural_clip(6, SMALL))
    (traced,) = rendered_clips([4], SMALL)
    assert traced.shape == first.shape
    assert np.array_equal(traced, next(rendered_clips([4], SMALL)))


def test_most_procedural_clips_move_and_some_stand_still() -> None:
    clips = [procedural_clip(seed, SMALL).astype(float) for seed in range(60)]
    changes = np.array([np.abs(np.diff(clip, axis=0)).mean() for clip in clips])
    contrast = np.array([clip.std() for clip in clips])
    assert (changes > 2).mean() > 0.7
    assert (contrast > 15).mean() > 0.8


def test_blends_are_made_of_their_layers() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 40, 4, 3, 16, 16, generator=generator)
    batch = random_blends(first, second, generator)
    share = batch.alpha[..., None, None, None]
    mixed = (1 - share) * batch.truth[:, 0] + share * batch.truth[:, 1]
    assert torch.allclose(batch.blends, mixed, atol=1e-6)
    assert torch.equal(batch.truth[:, 0], first)
    assert float(batch.alpha.min()) >= ALPHA[0] and float(batch.alpha.max()) <= ALPHA[1]
    fades = (batch.alpha[:, 0] != batch.alpha[:, -1]).sum()
    still = (batch.truth[:, 1, 0] == batch.truth[:, 1, -1]).flatten(1).all(1).sum()
    plain = (batch.truth[:, 1] == second).flatten(1).all(1).sum()
    assert 0 < fades < 12 and 0 < still < 12 and 15 < plain < 40
    assert len(KINDS) == 5


# ----------------------------------------------------------------------------------------- training


def test_a_run_is_resumed_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In bfloat16 torch's gradient of transposed convolutions differs in its last bit by the run.
    monkeypatch.setattr(loop, "autocast", lambda device: nullcontext())
    whole = pretrain(TINY, tmp_path / "whole", CPU, Silent())
    pretrain(TINY, tmp_path / "parts", CPU, Silent(), stop_after=0.0)
    parts = pretrain(TINY, tmp_path / "parts", CPU, Silent())
    first, second = weights.read_tensors(whole), weights.read_tensors(parts)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert weights.load_centrifuge(weights.find(str(whole), weights.CENTRIFUGE)).shape == MINI
    net = Centrifuge(MINI)
    assert loop.warm_start(net, whole, TINY) == 3 * 2  # clips
    state = net.state_dict()
    assert all(torch.equal(v, first[k]) for k, v in state.items() if v.is_floating_point())
    with pytest.raises(OptionError, match="another network"):
        loop.warm_start(Centrifuge(replace(MINI, outputs=3)), whole, TINY)


def test_a_few_steps_learn_one_blend() -> None:
    """The loss of a single blend of moving scenes falls well below the identity's."""
    torch.manual_seed(0)
    net = Centrifuge(MINI)
    clips = make_chunk(replace(TINY, height=48, width_pixels=48, chunk=4, rendered=0), 0)
    batch = blend(*(clips[i : i + 2, :4, :, :48, :48].float() / 255 for i in (0, 2)))
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    losses = []
    for _ in range(25):
        loss = separation_loss(batch.truth, net(batch.blends)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_networks_follow_from_the_recipe() -> None:
    assert shape_of(TINY) == MINI
    shape = shape_of(replace(TINY, outputs=8, corrector=True))
    assert shape == replace(MINI, outputs=8, corrector=True)
    assert isinstance(new_network(TINY), Centrifuge)
    recipe = make_recipe({"network": "centrifuge", "steps": 9}, ["outputs=3", "corrector=true"])
    assert isinstance(recipe, BlendRecipe) and (recipe.outputs, recipe.corrector) == (3, True)
    assert isinstance(make_recipe({"network": "ownership"}, []), Recipe)
    for bad in (
        "outputs=1",
        "preset=large",
        "videos=/nowhere",
        "rendered=40",
        "objects=2",
        "loss=none",
        "colour_weight=-1",
    ):
        with pytest.raises(OptionError):
            make_recipe({"network": "centrifuge"}, [bad])


def test_clips_are_cut_from_the_users_videos(tmp_path: Path) -> None:
    frames = np.zeros((14, 60, 90, 3), np.uint8)
    frames[..., 0] = 10 * np.arange(14)[:, None, None]
    (tmp_path / "deep").mkdir()
    encode(tmp_path / "deep" / "mine.mkv", frames, "-c:v", "ffv1")
    recipe = replace(TINY, chunk=8, rendered=0, videos=tmp_path)
    clips = make_chunk(recipe, 0)
    mine = [c for c in clips if int(c[:, 1:].max()) < 3]
    assert 3 <= len(mine) < 8
    steps = mine[0][1:, 0].float().mean((1, 2)) - mine[0][:-1, 0].float().mean((1, 2))
    assert steps.min() > 8  # frames in their order
    held = make_chunk(recipe, 0, VALIDATION_SEEDS)
    assert all(int(c[:, 1:].max()) > 3 for c in held)  # validation is the same for every run
    (tmp_path / "none").mkdir()
    with pytest.raises(VideoError, match="no video"):
        make_chunk(replace(recipe, videos=tmp_path / "none"), 0)


def test_a_frame_is_fitted_about_its_middle() -> None:
    frame = np.zeros((40, 100, 3), np.uint8)
    frame[:, 30:70] = 200
    assert (fitted(frame, (20, 20)) == 200).all()


def test_draws_follow_from_the_step_and_differ() -> None:
    meta = torch.device("meta")  # no workers
    pool = ClipPool(TINY, meta)
    pool.device = CPU
    first, again, other = pool.draw(0), pool.draw(0), pool.draw(1)
    assert first.blends.shape == (2, 4, 3, 32, 32)
    assert torch.equal(first.blends, again.blends)
    assert not torch.equal(first.blends, other.blends)
    pool.recipe = replace(TINY, frozen=1.0)
    still = pool.draw(0).truth[:, 0]
    assert torch.equal(still, still[:, :1].expand_as(still))
    rng = np.random.default_rng(0)
    clip = torch.arange(8 * 3 * 40 * 40).view(8, 3, 40, 40)
    assert cut(clip, rng, TINY).shape == (4, 3, 32, 32)


def test_options_of_other_networks_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for args, words in (
        (("--network", "centrifuge", "--width", 16), "--width is not for"),
        (("--network", "ownership", "--videos", tmp_path), "--videos is not for"),
        (("--network", "coordination", "--photos", tmp_path), "--photos is not for"),
        (("--network", "elsewhere"), "network must be"),
    ):
        code, text = run("pretrain", "-o", out, *args)
        assert code == 2 and words in text, text
    assert not out.exists()

"""Pretraining: losses fall, runs resume exactly, processes agree, targets are right."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from omnimatte_cli.errors import OmnimatteError, OptionError, OutputError
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.media.lock import working_in
from omnimatte_cli.methods import weights
from omnimatte_cli.methods.coordination.network import LayerNet
from omnimatte_cli.progress import Silent
from omnimatte_cli.synth.plate_faults import GivenClip
from omnimatte_cli.synth.seeds import DATASET_SEEDS, SEED_BITS, TRAINING_SEEDS, VALIDATION_SEEDS
from omnimatte_cli.training import loop, pool
from omnimatte_cli.training.loop import (
    average,
    cut_log,
    learning_rate,
    new_network,
    pretrain,
    share_done,
    tie_start,
)
from omnimatte_cli.training.objectives import coordination_loss, layer_error, ownership_truth
from omnimatte_cli.training.pool import (
    PLANNERS,
    Chunks,
    PlannedChunk,
    Pool,
    plan_chunk,
    render_chunk,
    restored,
)
from omnimatte_cli.training.recipe import Recipe, make_recipe
from omnimatte_cli.training.validation import regions, shared_out, solo_predictions
from omnimatte_cli.training.widen import deepen, widen

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
TINY = Recipe(
    height=32, width_pixels=32, steps=6, batch_size=2, chunk=2, pool=2, reuse=2.0, width=8,
    objects=(2,), warmup=1, validate_steps=100, validation_objects=(2,), ema=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def chunk():
    recipe = replace(TINY, height=64, width_pixels=64, chunk=4)
    return restored(render_chunk(recipe, 0, VALIDATION_SEEDS, "cpu"), CPU)


def state(path: Path) -> dict[str, torch.Tensor]:
    return weights.read_tensors(path)


def equal(a: Path, b: Path) -> bool:
    first, second = state(a), state(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("network", ["ownership", "coordination"])
def test_a_stopped_run_resumes_exactly(tmp_path: Path, network: str) -> None:
    recipe = replace(TINY, network=network, auxiliary_steps=2, squared_steps=3, layer_steps=4)
    whole = pretrain(recipe, tmp_path / "whole", CPU, Silent())
    stopped = pretrain(recipe, tmp_path / "parts", CPU, Silent(), stop_after=0.0)
    assert weights.find(str(stopped), network).metadata["samples"] == "2"
    first = torch.load(tmp_path / "parts" / "state.pt", weights_only=True)
    assert first["done"] == 1
    parts = pretrain(recipe, tmp_path / "parts", CPU, Silent())
    assert equal(whole, parts)
    found = weights.find(str(whole), network)
    assert found.metadata["samples"] == "12"
    assert json.loads(found.metadata["recipe"])["steps"] == 6
    assert (tmp_path / "whole" / "sheet.png").is_file()
    lines = [json.loads(x) for x in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert 0 <= lines[-1]["iou"] <= 1
    with pytest.raises(OptionError, match="other options"):
        pretrain(replace(recipe, lr=0.5), tmp_path / "parts", CPU, Silent())


def test_warm_start_takes_the_weights(tmp_path: Path) -> None:
    tiny = replace(TINY, network="ownership", steps=1)
    first = pretrain(tiny, tmp_path / "first", CPU, Silent())
    frozen = replace(tiny, seed=1, lr=1e-12, height=48, width_pixels=64)
    second = pretrain(frozen, tmp_path / "second", CPU, Silent(), start_from=first)
    other = pretrain(frozen, tmp_path / "other", CPU, Silent())

    def near(a: Path, b: Path) -> bool:
        pairs = zip(state(a).values(), state(b).values(), strict=True)
        return all(torch.allclose(x, y, atol=1e-3) for x, y in pairs)

    assert near(first, second) and not near(first, other)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "state.pt").write_bytes((tmp_path / "second" / "state.pt").read_bytes())
    state_of = torch.load(tmp_path / "begun" / "state.pt", weights_only=True) | {"done": 0}
    torch.save(state_of, tmp_path / "begun" / "state.pt")  # killed before its first save
    pretrain(replace(tiny, lr=2e-3), tmp_path / "begun", CPU, Silent())
    for start in (other, None):  # a run goes on as it has begun
        with pytest.raises(OptionError, match="began with other weights"):
            pretrain(frozen, tmp_path / "second", CPU, Silent(), start_from=start)


def test_a_widened_network_gives_the_same_layers(tmp_path: Path, chunk) -> None:
    torch.manual_seed(0)
    narrow = LayerNet(8, (4, 4)).eval()
    tie_start(narrow)
    wide = widen(narrow, 24).eval()
    hidden = torch.tensor([False, True, False, True, True]).expand(len(chunk), -1)
    with torch.no_grad():
        small = narrow(chunk.frames, chunk.masks, hidden)
        large = wide(chunk.frames, chunk.masks, hidden)
    assert small.std() > 0.05
    assert torch.allclose(small, large, atol=1e-5)
    # The copies of a channel are read differently, so training drives them apart.
    kernel = wide.image_encoder.convs[1].weight
    assert not torch.allclose(kernel[:, 0], kernel[:, 1])

    first = pretrain(replace(TINY, network="coordination", steps=1), tmp_path / "a", CPU, Silent())
    broad = replace(TINY, network="coordination", steps=1, width=16)
    grown = pretrain(broad, tmp_path / "b", CPU, Silent(), start_from=first)
    file = weights.find(str(grown))
    assert file.width == 16 and file.metadata["samples"] == "4"  # of both runs
    assert file.metadata["size"] == "32x32" and int(file.metadata["scenes"]) >= 2
    with pytest.raises(OptionError, match="multiple"):
        pretrain(replace(broad, width=20), tmp_path / "c", CPU, Silent(), start_from=first)


@torch.no_grad()
def test_a_deeper_network_begins_with_what_the_shallow_one_has_learned(
    chunk, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    shallow, deep = OwnerNet().eval(), OwnerNet((2, 0, 2, 0), 1, True).eval()
    given = (chunk.frames, chunk.plate[:, None], chunk.masks)
    before = deep(*given)
    deepen(shallow, deep)
    after = deep(*given)  # but for rounding: its convolutions add up what is not there yet, too
    assert torch.allclose(shallow(*given), after, atol=1e-5)
    assert not torch.allclose(before, after, atol=1e-2)
    with pytest.raises(OptionError, match="reaches=2,2 --set fine=0"):
        deepen(shallow, OwnerNet((1, 0, 2)))
    with pytest.raises(OptionError, match="reaches=2,0,2,0 --set fine=1 --set motion=true"):
        deepen(deep, OwnerNet((2, 0, 2, 0), motion=True))  # the block at 1/8 would be lost
    with pytest.raises(OptionError, match="motion=true"):
        deepen(deep, OwnerNet((2, 0, 2, 0), 1))

    weights.save(deep, tmp_path / "deep.safetensors")
    read = weights.load_owner(weights.find(str(tmp_path / "deep.safetensors"), "ownership"))
    assert read.reaches == (2, 0, 2, 0) and len(read.fine) == 1 and read.motion
    assert torch.equal(read(*given), deep(*given))


def test_a_run_begins_with_the_shipped_ownership_weights_as_it_is() -> None:
    recipe = replace(TINY, network="ownership")
    net = new_network(recipe)
    assert loop.warm_start(net, weights.shipped_folder() / "ownership.safetensors", recipe) > 0
    shipped = weights.load_owner(weights.find("ownership", "ownership")).state_dict()
    assert all(torch.equal(value, shipped[name]) for name, value in net.state_dict().items())


def test_chunks_have_the_shapes_that_the_recipe_draws() -> None:
    recipe = replace(TINY, network="ownership", aspects=(1.0, 2.0))
    shapes = {
        tuple(render_chunk(recipe, n, TRAINING_SEEDS, "cpu").frames.shape[-2:]) for n in range(5)
    }
    assert shapes == {(32, 32), (32, 64)}
    held_out = render_chunk(recipe, 0, VALIDATION_SEEDS, "cpu")
    assert held_out.frames.shape[-2:] == (32, 32)
    with pytest.raises(OptionError, match="aspects"):
        replace(TINY, aspects=(2.0,))


def test_chunks_have_the_lengths_that_the_recipe_draws() -> None:
    recipe = replace(TINY, network="ownership", lengths=(5, 8))
    found = {plan_chunk(recipe, n, TRAINING_SEEDS).options.frames for n in range(6)}
    assert found == {5, 8} and not recipe.one_size
    assert plan_chunk(recipe, 0, VALIDATION_SEEDS).options.frames == TINY.frames
    for wrong in ({"lengths": (5,)}, {"network": "ownership", "lengths": (1,)}):
        with pytest.raises(OptionError, match="lengths"):
            replace(TINY, **wrong)


def test_beside_a_gpu_workers_plan_and_the_training_process_renders() -> None:
    """Seen from the outside there is no difference; a device without data stands for the GPU."""
    recipe = replace(TINY, workers=0)
    assert Pool(TINY, torch.device("meta")).count == PLANNERS
    pool = Pool(recipe, torch.device("meta"))
    made = pool.make(0)
    assert isinstance(made, PlannedChunk)
    pool.device = CPU
    with Pool(TINY, CPU) as plain:
        assert plain.count == 1
        for step in range(2):
            assert torch.equal(pool.draw(step).frames, plain.draw(step).frames)


def test_a_tied_start_looks_at_its_own_place() -> None:
    torch.manual_seed(0)
    net = LayerNet(16, (4, 4))
    tie_start(net)
    attention = net.blocks[0].cross_attention
    places = net.query_positions(5, (4, 4)).flatten(0, 2)
    query = attention.query(places).unflatten(1, (4, -1)).transpose(0, 1)
    key = attention.key(net.key_positions(5, (4, 4)).flatten(0, 2)).unflatten(1, (4, -1))
    scores = query @ key.permute(1, 2, 0) / query.shape[-1] ** 0.5
    looks = scores.softmax(-1).mean(0)
    assert bool((looks.argmax(1) == torch.arange(80)).all())
    values = torch.randn(80, 64)
    assert torch.allclose(attention.out(attention.value(values)), values, atol=1e-5)


def test_layer_error_against_loops() -> None:
    rng = np.random.default_rng(0)
    rgba, solo = rng.random((1, 2, 1, 4, 3, 3)), rng.random((1, 2, 1, 3, 3, 3))
    visible, plate = rng.integers(0, 2, (1, 2, 1, 1, 3, 3)).astype(float), rng.random((1, 3, 3, 3))
    total = 0.0
    for i, y, x in np.ndindex(2, 3, 3):
        alpha, back, true = rgba[0, i, 0, 3, y, x], plate[0, :, y, x], solo[0, i, 0, :, y, x]
        error = 2 * np.abs(alpha * rgba[0, i, 0, :3, y, x] + (1 - alpha) * back - true)
        change = min(1.0, np.abs(true - back).sum() / 0.5) * (1 - visible[0, i, 0, 0, y, x])
        total += (1 + 3 * change) * (0.7 * error**2 + 0.3 * error).sum()
    tensors = [torch.from_numpy(x) for x in (rgba, solo, visible, plate)]
    assert float(layer_error(*tensors, squared=0.7, effect_weight=3.0)) == pytest.approx(total / 18)


def test_ownership_learns_on_one_batch(chunk) -> None:
    from omnimatte_cli.training.objectives import ownership_loss

    torch.manual_seed(0)
    net = OwnerNet()
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
    losses = []
    for step in range(25):
        loss, _ = ownership_loss(net, chunk, TINY, step, np.random.default_rng(step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5]), losses


def test_coordination_learns_on_one_batch(chunk) -> None:
    recipe = replace(TINY, network="coordination", height=64, width_pixels=64, auxiliary_steps=30)
    net = new_network(recipe)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
    losses = []
    for step in range(25):
        loss, terms = coordination_loss(net, chunk, recipe, 0, np.random.default_rng(step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert set(terms) == {"reconstruction", "l1", "l0", "mask", "layer"}
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5]), losses


def test_the_curriculum_changes_with_the_steps(chunk) -> None:
    recipe = replace(TINY, network="coordination", auxiliary_steps=10, layer_steps=10)
    shapes = []

    class Spy(torch.nn.Module):
        def forward(self, frames, masks, hidden, decoded):
            shapes.append((decoded.shape[1], int(hidden.sum()), hidden.gather(1, decoded)))
            rgba = torch.zeros(len(frames), masks.shape[1], decoded.shape[1], 4, 64, 64)
            return rgba.requires_grad_()

    for step in (0, 10):
        _, terms = coordination_loss(Spy(), chunk, recipe, step, np.random.default_rng(0))
        assert ("layer" in terms) == (step < 10)
    assert shapes[0][0] == 4 and not shapes[0][2][:, 3].any() and shapes[0][2][:, :3].all()
    assert shapes[1][0] == 3 and shapes[1][2].all()
    none = replace(recipe, hidden=0)
    coordination_loss(Spy(), chunk, none, 0, np.random.default_rng(0))
    assert shapes[2][:2] == (5, 0)


def as_given(chunk) -> GivenClip:
    """The clips with the true plate, a still camera and no strangers."""
    b, t, _, h, w = chunk.frames.shape
    plates = chunk.plate[:, None].expand(b, t, 3, h, w)
    nobody = torch.zeros((b, 1, t, h, w), dtype=torch.bool)
    return GivenClip(chunk.frames, plates, plates, chunk.masks, chunk.visible, chunk.solos, nobody)


def test_ownership_targets(chunk) -> None:
    n = chunk.masks.shape[1]
    truth = ownership_truth(as_given(chunk), n)
    assert torch.allclose(truth.share.sum(1), torch.ones_like(truth.share[:, 0]), atol=1e-4)
    body = chunk.visible[:, :, :, 0] > 0.5
    assert bool((truth.share[:, :n][body] == 1).all())
    still = (chunk.solos - chunk.plate[:, None, None]).abs().amax((1, 3)) < 1e-3
    assert bool((truth.share[:, n][still & ~body.any(1)] > 0.99).all())
    fewer = ownership_truth(as_given(chunk), n - 1)
    assert bool((fewer.share[:, -1][body[:, -1]] == 1).all())  # an unmasked mover is nobody's
    stranger = torch.zeros_like(still[:, None])
    stranger[..., :20] = True
    hidden = ownership_truth(replace(as_given(chunk), unowned=stranger), n)
    outside = ~body.any(1)[:, :, :, :20]
    assert bool((hidden.share[:, n, :, :, :20][outside] > 0.99).all())
    assert bool((hidden.changes[..., :20] == 0).all())


def test_pool_draws_the_same_whatever_the_speed(tmp_path: Path) -> None:
    recipe = replace(TINY, steps=10)
    with Pool(recipe, CPU) as pool:
        one_by_one = [pool.draw(step) for step in range(6)]
    with Pool(recipe, CPU) as pool:
        late = pool.draw(5)
    assert torch.equal(one_by_one[5].frames, late.frames)
    assert not torch.equal(one_by_one[4].frames, late.frames)
    assert set(range(3)) >= {Pool(recipe, torch.device("meta")).newest(s) for s in range(4)}


def test_more_processes_use_up_the_clips_faster() -> None:
    alone, two = (Pool(TINY, torch.device("meta"), world=world) for world in (1, 2))
    assert [two.newest(s) for s in range(6)] == [alone.newest(2 * s + 1) for s in range(6)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_pretraining_saves_whole_steps_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    recipe = replace(TINY, network="coordination", steps=4)
    whole = pretrain(recipe, tmp_path / "whole", CPU, Silent())
    steps = []

    def interrupting(ema, net, decay, step) -> None:
        steps.append(step)
        if len(steps) == 2:
            os.kill(os.getpid(), number)
        average(ema, net, decay, step)

    monkeypatch.setattr(loop, "average", interrupting)
    out = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe, out, CPU, Silent())
    assert torch.load(out / "state.pt", weights_only=True)["done"] == len(steps) == 2
    assert equal(whole, pretrain(recipe, out, CPU, Silent())) and steps == [0, 1, 2, 3]


def test_one_run_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (
        working_in(tmp_path / "run" / ".pretrain"),
        pytest.raises(OutputError, match="Another run is writing to"),
    ):
        pretrain(TINY, tmp_path / "run", CPU, Silent())
    assert not any((tmp_path / "run").iterdir())


def test_a_resumed_log_holds_each_step_once_and_its_means(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 50, "loss": 1}\n{"step": 100, "loss": 2}\n{"step": 15')
    cut_log(log, 60)
    assert log.read_text() == '{"step": 50, "loss": 1}\n'


def test_validation_hides_as_the_recipe_does(chunk) -> None:
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, frames, masks, hidden, decoded):
            seen.append((hidden[0].int().tolist(), decoded[0].tolist()))
            return torch.zeros(len(frames), masks.shape[1], 1, 4, 64, 64)

    for hidden, hiding in ((3, "random"), (1, "prediction"), (3, "inpainting"), (0, "random")):
        recipe = replace(TINY, network="coordination", hidden=hidden, hiding=hiding)
        solo_predictions(Spy(), chunk, recipe)
    assert seen == [
        ([0, 0, 1, 1, 1], [2]),
        ([0, 0, 0, 0, 1], [4]),
        ([0, 1, 1, 1, 0], [1]),
        ([0, 0, 0, 0, 0], [2]),
    ]


@pytest.mark.parametrize(
    ("plate", "least", "gain"), [("true", 0.75, 0.25), ("estimated", 0.5, 0.07)]
)
def test_validation_shares_out_the_residual(plate: str, least: float, gain: float) -> None:
    """True layers own most of the change; empty ones own the masks alone."""
    recipe = replace(TINY, height=64, width_pixels=64, chunk=4)
    frames = torch.tensor([1, 3])
    rows = []
    for number in range(3):
        chunk = restored(render_chunk(recipe, number, VALIDATION_SEEDS, "cpu"), CPU)
        if plate == "true":
            chunk = replace(chunk, plate_estimated=chunk.plate)
        true = chunk.solos[:, :, frames]
        truth = regions(true, chunk.plate[:, None, None])
        given = chunk.plate_estimated[:, None, None]
        empty = given.expand_as(true).contiguous()
        found = [regions(shared_out(chunk, x, frames), given) for x in (true, empty)]
        found.append(chunk.masks[:, :, frames, 0] > 0.5)
        rows.append([float((x & truth).sum() / (x | truth).sum()) for x in found])
    full, none, bare = np.mean(rows, 0)
    assert full > least and full > none + gain, rows
    assert abs(none - bare) < 0.05, rows


def test_validation_scenes_are_nobodys_training() -> None:
    train = render_chunk(TINY, 0, TRAINING_SEEDS, "cpu")
    held = render_chunk(TINY, 0, VALIDATION_SEEDS, "cpu")
    assert not torch.equal(train.frames, held.frames)
    with pytest.raises(OptionError, match="seed"):
        replace(TINY, seed=256)  # would begin with the scenes of validation
    assert (255 << SEED_BITS) + (1 << SEED_BITS) <= VALIDATION_SEEDS < DATASET_SEEDS
    other = render_chunk(replace(TINY, seed=5), 0, VALIDATION_SEEDS, "cpu")
    assert torch.equal(held.frames, other.frames)


def test_learning_rate_rises_and_falls() -> None:
    recipe = Recipe(steps=100, warmup=10, lr=1.0, final_lr=0.1)
    rates = [learning_rate(recipe, s, share_done(recipe, s, 0.0)) for s in range(100)]
    assert rates[0] == pytest.approx(0.1, rel=0.01) and max(rates) <= 1
    assert rates.index(max(rates)) in range(8, 12)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_recipes_from_text() -> None:
    recipe = make_recipe({"steps": 5}, ["lr=0.5", "objects=2,3", "tie=false", "hiding=prediction"])
    assert (recipe.steps, recipe.lr, recipe.objects) == (5, 0.5, (2, 3))
    assert recipe.tie is False and recipe.hiding == "prediction"
    for bad in (
        "nothing=1", "lr", "lr=fast", "lr=nan", "lr=-1", "tie=perhaps", "hidden=5", "ema=2",
        "hiding=rnadom", "effects=rain", "reuse=0", "seed=-1", "frames=12", "objects=9",
        "objects=0", "validate_steps=0", "mask_drops=5", "textures=/nowhere",
    ):  # fmt: skip
        with pytest.raises(OptionError):
            make_recipe({}, [bad])


PROGRAM = """
import sys, torch
from pathlib import Path
from omnimatte_cli.progress import Silent
from omnimatte_cli.training.loop import pretrain
from tests.test_training import TINY
from dataclasses import replace
from functools import partial
if __name__ == "__main__":
    torch.set_num_threads(1)
    recipe = replace(TINY, network="coordination", steps=4)
    import os
    from safetensors.torch import save_file
    import omnimatte_cli.training.loop as loop
    nets = []
    new = loop.new_network
    loop.new_network = lambda recipe: nets.append(new(recipe)) or nets[-1]
    out = Path(sys.argv[1])
    pretrain(recipe, out, torch.device("cpu"), Silent())
    save_file(dict(nets[0].state_dict()), out / f"rank{os.environ['RANK']}.safetensors")
"""


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    """torchrun with two CPU processes: one network, not that of either process alone."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    root = Path(__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
    ]
    done = subprocess.run(
        [*command, str(program), str(tmp_path / "two")],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    recipe = replace(TINY, network="coordination", steps=4)
    alone = pretrain(recipe, tmp_path / "one", CPU, Silent())
    both = tmp_path / "two" / "weights.safetensors"
    assert weights.find(str(both)).metadata["samples"] == "16"
    assert not equal(alone, both)
    ranks = [state(tmp_path / "two" / f"rank{i}.safetensors") for i in range(2)]
    assert all(torch.equal(ranks[0][k], ranks[1][k]) for k in ranks[0])


def test_the_ablation_script_prints_its_table(tmp_path: Path) -> None:
    script = Path(__file__).parent.parent / "examples" / "ablation_hiding.py"
    options = ["--start", "none", "--steps", "1", "--seeds", "1", "--size", "32"]
    command = [sys.executable, str(script), str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split("|")[1].strip() for line in done.stdout.splitlines()]
    assert lines == ["hidden", "---", "random", "prediction", "inpainting"]
    scores = json.loads((tmp_path / "random-seed0" / "scores.json").read_text())
    scores = scores["scores"]
    assert 0 <= scores["shadow"]["iou"] <= 1 and 0 <= scores["reflection"]["wrong"] <= 1
    other = subprocess.run([*command, "--steps", "2"], capture_output=True, text=True)
    assert other.returncode == 1 and "other options" in other.stderr


def ended_once(flag: Path, number: int) -> int:
    """Twice the number; the first process that is asked is ended as the system does it."""
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def always_ended(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_lost_worker_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Chunks(TINY, CPU, partial(ended_once, tmp_path / "flag"), 1) as chunks:
        assert [chunks.chunk(n, n) for n in (0, 1, 2)] == [0, 2, 4]
    assert [r.message for r in caplog.records] == [
        "A process that makes training clips was lost: it is replaced."
    ]


def test_workers_that_are_always_lost_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "LOST", 1)
    with (
        Chunks(TINY, CPU, always_ended, 1) as chunks,
        pytest.raises(OmnimatteError, match="too little memory"),
    ):
        chunks.chunk(0, 0)

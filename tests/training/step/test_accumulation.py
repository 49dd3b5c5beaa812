"""Accumulation against the step in one pass: equal losses and gradients, fewer activations in memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.testing import assert_close

from tests.benchmarks.step_batch import ACTIVE as BASE_ACTIVE
from tests.benchmarks.step_batch import Task, make_task
from tests.forked import run_ranks
from tests.training.conftest import recipe_tree
from tests.training.gradients_of_a_step import gradients_of_a_step
from tests.training.parallel.test_activation_checkpointing import SIZES
from tests.training.parallel.test_distribute import CLOSE, losses, recipe
from x2kit.data.config import LossName
from x2kit.data.pipeline.batch import Batch
from x2kit.io.run_directory import read_metrics
from x2kit.model import X2VLM
from x2kit.model.device import autocast
from x2kit.plugin.tasks import STEP_LOSSES
from x2kit.recipe import read_recipe
from x2kit.training import train
from x2kit.training.parallel.activation_checkpointing import checkpoint_activations
from x2kit.training.step.accumulation import (
    accumulate,
    batch_statistics,
    describe_accumulation,
    slices,
)
from x2kit.training.step.losses import step_losses
from x2kit.training.step.plan import Active, Losses

ALL: dict[str, tuple[LossName, ...]] = {
    "images": STEP_LOSSES["images"],
    "regions": STEP_LOSSES["boxes"],
    "parallel": STEP_LOSSES["parallel"],
    "alone": STEP_LOSSES["texts"],
}
SINGLE = [{stream: (loss,)} for stream, losses in ALL.items() for loss in losses]
CPU = torch.device("cpu")
Gradients = dict[str, Tensor]


def weight(stream: str, loss: LossName) -> float:
    """A different weight for each loss, so that a mix-up changes the gradients."""
    losses = STEP_LOSSES["images"] if stream == "films" else ALL.get(stream, BASE_ACTIVE.get(stream, ()))
    return 0.5 + len(stream) / 8 + losses.index(loss) / 4


def take_gradients(model: nn.Module) -> Gradients:
    """Return and clear the gradients of the parameters."""
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def in_one_pass(
    model: X2VLM, batch: Batch, active: Active, precision: str = "fp32"
) -> tuple[Losses, Gradients]:
    torch.manual_seed(5)
    with autocast(CPU, precision):
        losses = step_losses(model, batch, active)
    terms = [value * weight(name, loss) for name, on in losses.items() for loss, value in on.items()]
    torch.stack(terms).sum().backward()
    return {name: {k: v.detach() for k, v in on.items()} for name, on in losses.items()}, take_gradients(
        model
    )


def in_parts(
    model: X2VLM, batch: Batch, active: Active, parts: int = 4, precision: str = "fp32"
) -> tuple[Losses, Gradients]:
    torch.manual_seed(5)
    losses = accumulate(model, batch, active, parts, weight, forward_context=lambda: autocast(CPU, precision))
    return losses, take_gradients(model)


def require_equal(found: tuple[Losses, Gradients], expected: tuple[Losses, Gradients]) -> None:
    """Losses and gradients within 1e-5; the order of sums differs."""
    assert_close(found[0], expected[0], rtol=0, atol=1e-5)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(
    "active", SINGLE, ids=lambda active: ".".join([*active, *next(iter(active.values()))])
)
def test_each_loss_equals_that_of_the_whole_batch(model: X2VLM, batch: Batch, active: Active) -> None:
    require_equal(in_parts(model, batch, active), in_one_pass(model, batch, active))


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 9])
def test_all_losses_together_equal_those_of_the_whole_batch(model: X2VLM, batch: Batch, parts: int) -> None:
    found = in_parts(model, batch, ALL, parts)
    require_equal(found, in_one_pass(model, batch, ALL))
    assert {"temperature", "text_temperature"} <= found[1].keys()


def test_negatives_from_other_parts_and_rows_without_negatives(model: X2VLM, batch: Batch) -> None:
    alike = torch.tensor([0, 0, 0, 0])  # one group: only positives count
    few = torch.tensor([0, 0, 0, 1])
    for group in (alike, few):
        streams = {"images": batch.streams["images"]._replace(group=group)}
        all_images = batch._replace(streams=streams)
        require_equal(in_parts(model, all_images, ALL), in_one_pass(model, all_images, ALL))


def test_batches_without_images_or_without_boxes(model: X2VLM, batch: Batch) -> None:
    texts = batch._replace(images=None, streams={n: batch.streams[n] for n in ("parallel", "alone")})
    require_equal(in_parts(model, texts, ALL), in_one_pass(model, texts, ALL))
    rows = batch.streams["regions"]
    whole = rows._replace(regions=rows.regions._replace(whole=torch.ones(5, dtype=torch.bool)))
    all_images = batch._replace(streams={"regions": whole})
    require_equal(in_parts(model, all_images, ALL), in_one_pass(model, all_images, ALL))


def test_frames_of_a_video_stay_together(model: X2VLM, batch: Batch) -> None:
    model.frame_positions = nn.Parameter(torch.randn(1, 3, 1, 8, generator=torch.Generator().manual_seed(7)))
    frames = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(8))
    films = batch.streams["images"]._replace(images=torch.tensor([3, 4, 5, 3]))  # behind three images
    streams = {"films": films, "regions": batch.streams["regions"]}
    filmed = batch._replace(images=torch.cat([batch.images, frames]), videos=(3, 1, 2), streams=streams)
    active = {"films": STEP_LOSSES["images"], "regions": STEP_LOSSES["boxes"]}
    require_equal(in_parts(model, filmed, active, parts=2), in_one_pass(model, filmed, active))


def test_frozen_encoder_gets_no_gradients(model: X2VLM, batch: Batch) -> None:
    model.vision.requires_grad_(False)
    require_equal(in_parts(model, batch, ALL), in_one_pass(model, batch, ALL))


@pytest.fixture
def task() -> Task:
    """Real encoders, small, without dropout."""
    drawn = ("drop_path", "dropout")
    sizes = {
        f"model.{part}.init_args.{key}": value
        for part, of in SIZES.items()
        for key, value in of.items()
        if key not in drawn
    }
    return make_task(3, sizes)


@pytest.fixture
def dropping() -> Task:
    """The same with dropout."""
    return make_task(
        3, {f"model.{part}.init_args.{k}": v for part, of in SIZES.items() for k, v in of.items()}
    )


def relative_difference(found: Gradients, expected: Gradients) -> float:
    """The norm of the difference of all gradients, as a share of their norm."""
    difference = torch.stack([(found[name] - expected[name]).norm() for name in expected]).norm()
    return float(difference / torch.stack([g.norm() for g in expected.values()]).norm())


def test_gradients_of_real_encoders_equal_those_of_the_whole_batch(task: Task) -> None:
    found, expected = (
        in_parts(task.model, task.batch, BASE_ACTIVE),
        in_one_pass(task.model, task.batch, BASE_ACTIVE),
    )
    assert_close(found[0], expected[0], rtol=0, atol=1e-5)
    assert found[1].keys() == expected[1].keys()
    assert relative_difference(found[1], expected[1]) < 1e-5


def test_gradients_under_bf16_differ_by_rounding_alone(task: Task) -> None:
    exact = in_one_pass(task.model, task.batch, BASE_ACTIVE)[1]
    rounded = in_one_pass(task.model, task.batch, BASE_ACTIVE, "bf16")[1]
    found = in_parts(task.model, task.batch, BASE_ACTIVE, precision="bf16")[1]
    assert found.keys() == exact.keys()
    assert relative_difference(found, exact) < 1.5 * relative_difference(rounded, exact)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activation_checkpointing_changes_nothing_dropout_included(dropping: Task, precision: str) -> None:
    expected = in_parts(dropping.model, dropping.batch, BASE_ACTIVE, precision=precision)
    checkpoint_activations(dropping.model, lambda: autocast(CPU, precision))
    found = in_parts(dropping.model, dropping.batch, BASE_ACTIVE, precision=precision)
    assert_close(found, expected, rtol=0, atol=0)


def test_recomputation_repeats_dropout_masks(dropping: Task) -> None:
    seen: list[Tensor] = []
    dropping.model.text.model.register_forward_hook(lambda module, given, out: seen.append(out[0].detach()))
    in_parts(dropping.model, dropping.batch, BASE_ACTIVE, parts=2)
    half = len(seen) // 2
    assert_close(seen[half:], seen[:half], rtol=0, atol=0)
    assert not torch.equal(seen[0], dropping.model.text(*_texts(dropping)))  # dropout is on


def _texts(task: Task) -> tuple[Tensor, Tensor]:
    task.model.eval()
    rows = task.batch.streams["region"]
    return rows.texts.ids[:1], rows.texts.mask[:1]


def test_fewer_activations_are_kept(task: Task) -> None:
    """Compare the peak of the bytes that autograd keeps for the backward pass."""
    one = most_kept(lambda: in_one_pass(task.model, task.batch, BASE_ACTIVE))
    three = most_kept(lambda: in_parts(task.model, task.batch, BASE_ACTIVE, parts=3))
    assert three < one / 2


def most_kept(work: Callable[[], object]) -> int:
    """Bytes."""
    now = most = 0

    def drop(size: int) -> None:
        nonlocal now
        now -= size

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal now, most
            self.tensor = tensor
            now += tensor.nbytes
            most = max(most, now)
            weakref.finalize(self, drop, tensor.nbytes)

    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        work()
    return most


def test_batch_statistics_count_every_part_once(model: X2VLM, batch: Batch) -> None:
    assert batch_statistics(model) == []
    model.vision.norm = PatchNorm(8)
    assert batch_statistics(model) == ["vision.norm.norm"]
    in_parts(model, batch, ALL, parts=3)
    assert model.vision.norm.norm.num_batches_tracked == 3
    assert model.vision.norm.norm.track_running_stats


class PatchNorm(nn.Module):
    """Batch norm over all patches."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)

    def forward(self, patches: Tensor) -> Tensor:
        normed: Tensor = self.norm(patches.transpose(1, 2)).transpose(1, 2)
        return normed


def test_parts_are_even_and_never_empty() -> None:
    assert slices(5, 2) == [slice(0, 3), slice(3, 5)]
    assert slices(2, 4) == [slice(0, 1), slice(1, 2)]
    assert slices(0, 4) == []


def test_a_run_in_parts_logs_the_losses_of_the_run_in_one(tmp_path: Path) -> None:
    lines = [metrics_of_a_run(tmp_path, parts) for parts in (1, 3)]
    for one, three in zip(*lines, strict=True):
        for name in ("loss", "images.itc", "images.itm", "regions.giou", "parallel.tlm", "gradient_norm"):
            assert three[name] == pytest.approx(one[name], rel=1e-4)


def metrics_of_a_run(folder: Path, parts: int) -> list[dict[str, float]]:
    """Of two steps without dropout."""
    tree = recipe_tree(folder)
    tree["model"]["fusion"]["init_args"]["dropout"] = 0
    tree["training"] |= {"steps": 2, "accumulation": parts}
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(tree))
    resolved = read_recipe([file])
    train(resolved.recipe, resolved.plugins, folder / str(parts))
    return read_metrics(folder / str(parts))


def test_description_names_modules_with_batch_statistics(model: X2VLM) -> None:
    assert describe_accumulation(model, 2).endswith("in 2 parts, with the gradients of the whole batch")
    model.vision.norm = PatchNorm(8)
    message = describe_accumulation(model, 2)
    assert "the gradients differ from those of the whole batch" in message
    assert message.endswith("vision.norm.norm")


@pytest.mark.slow
def test_two_ranks_with_parts_have_the_gradients_of_one_rank(tmp_path: Path) -> None:
    require_gradients_of_one(tmp_path, 2, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "parts", "settings"),
    [
        (3, 1, {}),
        (2, 3, {}),
        (4, 2, {}),  # a rank has one row of some streams
        (2, 9, {"activation_checkpointing": True}),
        (2, 1, {"distribution": "fsdp"}),
        (2, 9, {"distribution": "fsdp", "activation_checkpointing": True}),  # most parts are empty
        (4, 2, {"distribution": "fsdp", "shard_ranks": 2}),
    ],
)
def test_any_number_of_ranks_and_parts_has_the_gradients_of_one_rank(
    tmp_path: Path, count: int, parts: int, settings: dict[str, object]
) -> None:
    require_gradients_of_one(tmp_path, count, parts, **settings)


def require_gradients_of_one(folder: Path, count: int, parts: int, **training: object) -> None:
    """All kinds of streams, with uneven shares."""
    file = recipe(folder, **training)
    expected = gradients_of_a_step(file, 1)
    module = gradients_of_a_step.__module__
    done = run_ranks(count, file, str(parts), folder / "found.pt", module=module)
    assert done.returncode == 0, done.stderr
    found = torch.load(folder / "found.pt", weights_only=True)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert_close(found[name], gradient, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
@pytest.mark.parametrize("negatives", ["global", "local"])
def test_two_ranks_with_parts_log_the_losses_of_two_ranks_without(tmp_path: Path, negatives: str) -> None:
    file = recipe(tmp_path, negatives=negatives)
    lines = []
    for parts in (1, 2):
        options = ("--run-dir", tmp_path / str(parts), "--training.accumulation", str(parts))
        done = run_ranks(2, "train", file, *options)
        assert done.returncode == 0, done.stderr
        lines.append(losses(tmp_path / str(parts)))
    for one, two in zip(*lines, strict=True):
        assert two == pytest.approx(one, abs=CLOSE, rel=CLOSE)

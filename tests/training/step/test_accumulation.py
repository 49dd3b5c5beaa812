"""A step in parts against the step in one: the same losses and gradients, from less that is kept."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.testing import assert_close

from tests.benchmarks.step_batch import ACTIVE as BASE_ACTIVE
from tests.benchmarks.step_batch import Task, make_task
from tests.training.conftest import recipe_tree
from tests.training.gradients_of_a_step import gradients_of_a_step
from tests.training.parallel.test_activation_checkpointing import SIZES
from tests.training.parallel.test_distribute import CLOSE, losses, recipe
from tests.training.torchrun import torchrun
from x2kit.data.config import LOSSES, LossName
from x2kit.data.pipeline.batch import Batch
from x2kit.distributed.processes import ALONE
from x2kit.errors import X2KitError
from x2kit.io.run_directory import read_metrics
from x2kit.model import X2VLM
from x2kit.model.device import autocast
from x2kit.recipe import read_recipe
from x2kit.training import train
from x2kit.training.config import TrainingConfig
from x2kit.training.parallel.activation_checkpointing import checkpoint_activations
from x2kit.training.step.accumulation import (
    accumulate,
    batch_statistics,
    describe_accumulation,
    require_whole_model,
    slices,
)
from x2kit.training.step.losses import Active, Losses, step_losses

ALL: dict[str, tuple[LossName, ...]] = {
    "images": LOSSES["image-text"],
    "regions": LOSSES["region-text"],
    "parallel": LOSSES["parallel-text"],
    "alone": LOSSES["text"],
}
SINGLE = [{stream: (loss,)} for stream, losses in ALL.items() for loss in losses]
CPU = torch.device("cpu")
Gradients = dict[str, Tensor]


def weight(stream: str, loss: LossName) -> float:
    """Another one for each, so that a mix-up is seen."""
    losses = LOSSES["image-text"] if stream == "films" else ALL.get(stream, BASE_ACTIVE.get(stream, ()))
    return 0.5 + len(stream) / 8 + losses.index(loss) / 4


def taken(model: nn.Module) -> Gradients:
    """The gradients at the parameters, which are then cleared."""
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def in_one(model: X2VLM, batch: Batch, active: Active, precision: str = "fp32") -> tuple[Losses, Gradients]:
    torch.manual_seed(5)
    with autocast(CPU, precision):
        losses = step_losses(model, batch, active)
    terms = [value * weight(name, loss) for name, on in losses.items() for loss, value in on.items()]
    torch.stack(terms).sum().backward()
    return {name: {k: v.detach() for k, v in on.items()} for name, on in losses.items()}, taken(model)


def in_parts(
    model: X2VLM, batch: Batch, active: Active, parts: int = 4, precision: str = "fp32"
) -> tuple[Losses, Gradients]:
    torch.manual_seed(5)
    losses = accumulate(model, batch, active, parts, weight, around=lambda: autocast(CPU, precision))
    return losses, taken(model)


def require_equal(found: tuple[Losses, Gradients], expected: tuple[Losses, Gradients]) -> None:
    """Losses and gradients within 1e-5; the order of sums differs."""
    assert_close(found[0], expected[0], rtol=0, atol=1e-5)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(
    "active", SINGLE, ids=lambda active: ".".join([*active, *next(iter(active.values()))])
)
def test_each_loss_is_that_of_the_whole_batch(model: X2VLM, batch: Batch, active: Active) -> None:
    require_equal(in_parts(model, batch, active), in_one(model, batch, active))


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 9])
def test_all_losses_together_are_those_of_the_whole_batch(model: X2VLM, batch: Batch, parts: int) -> None:
    found = in_parts(model, batch, ALL, parts)
    require_equal(found, in_one(model, batch, ALL))
    assert {"temperature", "text_temperature"} <= found[1].keys()


def test_negatives_lie_in_other_parts_and_rows_without_any_do_not_count(model: X2VLM, batch: Batch) -> None:
    alike = torch.tensor([0, 0, 0, 0])  # all of one group: the matched pairs alone are left
    few = torch.tensor([0, 0, 0, 1])
    for group in (alike, few):
        streams = {"images": batch.streams["images"]._replace(group=group)}
        all_images = batch._replace(streams=streams)
        require_equal(in_parts(model, all_images, ALL), in_one(model, all_images, ALL))


def test_a_batch_without_images_and_one_without_boxes(model: X2VLM, batch: Batch) -> None:
    texts = batch._replace(images=None, streams={n: batch.streams[n] for n in ("parallel", "alone")})
    require_equal(in_parts(model, texts, ALL), in_one(model, texts, ALL))
    rows = batch.streams["regions"]
    whole = rows._replace(regions=rows.regions._replace(whole=torch.ones(5, dtype=torch.bool)))
    all_images = batch._replace(streams={"regions": whole})
    require_equal(in_parts(model, all_images, ALL), in_one(model, all_images, ALL))


def test_frames_of_a_video_stay_together(model: X2VLM, batch: Batch) -> None:
    model.frame_positions = nn.Parameter(torch.randn(1, 3, 1, 8, generator=torch.Generator().manual_seed(7)))
    frames = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(8))
    films = batch.streams["images"]._replace(images=torch.tensor([3, 4, 5, 3]))  # behind three images
    streams = {"films": films, "regions": batch.streams["regions"]}
    filmed = batch._replace(images=torch.cat([batch.images, frames]), videos=(3, 1, 2), streams=streams)
    active = {"films": LOSSES["image-text"], "regions": LOSSES["region-text"]}
    require_equal(in_parts(model, filmed, active, parts=2), in_one(model, filmed, active))


def test_a_frozen_encoder_stays_without_gradients(model: X2VLM, batch: Batch) -> None:
    model.vision.requires_grad_(False)
    require_equal(in_parts(model, batch, ALL), in_one(model, batch, ALL))


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


def apart(found: Gradients, expected: Gradients) -> float:
    """The norm of the difference of all gradients, as a share of their norm."""
    difference = torch.stack([(found[name] - expected[name]).norm() for name in expected]).norm()
    return float(difference / torch.stack([g.norm() for g in expected.values()]).norm())


def test_real_encoders_have_the_gradients_of_the_whole_batch(task: Task) -> None:
    found, expected = (
        in_parts(task.model, task.batch, BASE_ACTIVE),
        in_one(task.model, task.batch, BASE_ACTIVE),
    )
    assert_close(found[0], expected[0], rtol=0, atol=1e-5)
    assert found[1].keys() == expected[1].keys()
    assert apart(found[1], expected[1]) < 1e-5


def test_under_bf16_they_are_as_close_as_bf16_is(task: Task) -> None:
    exact = in_one(task.model, task.batch, BASE_ACTIVE)[1]
    rounded = in_one(task.model, task.batch, BASE_ACTIVE, "bf16")[1]
    found = in_parts(task.model, task.batch, BASE_ACTIVE, precision="bf16")[1]
    assert found.keys() == exact.keys()
    assert apart(found, exact) < 1.5 * apart(rounded, exact)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_with_activation_checkpointing_they_are_the_same_dropout_included(
    dropping: Task, precision: str
) -> None:
    expected = in_parts(dropping.model, dropping.batch, BASE_ACTIVE, precision=precision)
    checkpoint_activations(dropping.model, lambda: autocast(CPU, precision))
    found = in_parts(dropping.model, dropping.batch, BASE_ACTIVE, precision=precision)
    assert_close(found, expected, rtol=0, atol=0)


def test_the_second_run_draws_what_the_first_drew(dropping: Task) -> None:
    seen: list[Tensor] = []
    dropping.model.text.register_forward_hook(lambda module, given, tokens: seen.append(tokens.detach()))
    in_parts(dropping.model, dropping.batch, BASE_ACTIVE, parts=2)
    half = len(seen) // 2
    assert_close(seen[half:], seen[:half], rtol=0, atol=0)
    assert not torch.equal(seen[0], dropping.model.text(*_texts(dropping)))  # dropout is on


def _texts(task: Task) -> tuple[Tensor, Tensor]:
    task.model.eval()
    rows = task.batch.streams["region"]
    return rows.texts.ids[:1], rows.texts.mask[:1]


def test_less_is_kept(task: Task) -> None:
    """Of what autograd keeps for the way back, at the moment at which it keeps most."""
    one = most_kept(lambda: in_one(task.model, task.batch, BASE_ACTIVE))
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


def test_batch_statistics_are_found_and_count_every_part_once(model: X2VLM, batch: Batch) -> None:
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


def test_the_run_says_what_is_promised(model: X2VLM) -> None:
    assert describe_accumulation(model, 2).endswith("in 2 parts, with the gradients of the whole batch")
    model.vision.norm = PatchNorm(8)
    assert "are not those of the whole batch, as 1 modules with batch statistics" in describe_accumulation(
        model, 2
    )


def test_processes_with_shards_of_the_model_are_refused() -> None:
    two = replace(ALONE, count=2)
    require_whole_model(TrainingConfig(accumulation=2), two)
    require_whole_model(TrainingConfig(distribution="fsdp"), two)
    require_whole_model(TrainingConfig(accumulation=2, distribution="fsdp"), ALONE)
    with pytest.raises(X2KitError, match=r"training\.accumulation: 2 parts with training\.distribution fsdp"):
        require_whole_model(TrainingConfig(accumulation=2, distribution="fsdp"), two)


def test_two_processes_have_in_parts_the_gradients_of_one_in_one(tmp_path: Path) -> None:
    require_gradients_of_one(tmp_path, 2, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "parts", "settings"),
    [
        (3, 1, {}),
        (2, 3, {}),
        (4, 2, {}),  # a process has one row of some streams, in as many parts
        (2, 9, {"activation_checkpointing": True}),
    ],
)
def test_any_number_of_processes_and_parts_has_the_gradients_of_one_in_one(
    tmp_path: Path, count: int, parts: int, settings: dict[str, object]
) -> None:
    require_gradients_of_one(tmp_path, count, parts, **settings)


def require_gradients_of_one(folder: Path, count: int, parts: int, **training: object) -> None:
    """All kinds of streams, with uneven shares."""
    file = recipe(folder, **training)
    expected = gradients_of_a_step(file, 1)
    module = gradients_of_a_step.__module__
    done = torchrun(count, file, str(parts), folder / "found.pt", module=module)
    assert done.returncode == 0, done.stderr
    found = torch.load(folder / "found.pt", weights_only=True)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert_close(found[name], gradient, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
@pytest.mark.parametrize("negatives", ["global", "local"])
def test_a_run_of_two_processes_in_parts_logs_the_losses_of_the_run_in_one(
    tmp_path: Path, negatives: str
) -> None:
    file = recipe(tmp_path, negatives=negatives)
    lines = []
    for parts in (1, 2):
        options = ("--run-dir", tmp_path / str(parts), "--training.accumulation", str(parts))
        done = torchrun(2, "train", file, *options)
        assert done.returncode == 0, done.stderr
        lines.append(losses(tmp_path / str(parts)))
    for one, two in zip(*lines, strict=True):
        assert two == pytest.approx(one, abs=CLOSE, rel=CLOSE)

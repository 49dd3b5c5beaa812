"""Text assignment: heads, rows, and images chosen from the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from x2kit_fusion import DoubledCross

from tests.model import tiny
from x2kit.data.pipeline.batch import Batch, TaskRows
from x2kit.errors import DataError, ShapeError
from x2kit.model import X2VLM, build_model
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.objectives.text_assignment import Assignment
from x2kit.plugin.tasks import Texts
from x2kit.tasks import LinearHead, TextAssignment
from x2kit.tasks.nlvr.task import TextAssignmentTask
from x2kit.training.step.accumulation import accumulate
from x2kit.training.step.losses import step_losses

HEADS = HeadsConfig(embed_dim=6, built=("itc",), extra={"assignment": LinearHead(outputs=3)})
ACTIVE = {"rows": ("assignment",)}


@pytest.fixture
def model() -> X2VLM:
    torch.manual_seed(0)
    fusion = DoubledCross(layers=1, heads=2, dropout=0.0, init_std=0.3)
    return build_model(
        ModelConfig(vision=tiny.TinyVision(), text=tiny.TinyText(), fusion=fusion, heads=HEADS)
    )


def batch(model: X2VLM) -> Batch:
    """Four texts; the first image is that of another stream, and two texts share one."""
    ids, mask = model.tokenize(["a red dog", "a cat", "the sun and the moon", "a boat"])
    rows = TaskRows(torch.tensor([[1], [2], [3], [3]]), (Texts(ids, mask),), {})
    return Batch(0, torch.rand(4, 3, 16, 16), {"rows": rows}, {}, [])


def test_images_are_chosen_among_those_of_the_stream(model: X2VLM) -> None:
    task = TextAssignment().build()
    given = batch(model)
    rows = given.streams["rows"]
    assert isinstance(rows, TaskRows)
    assert given.images is not None
    features = model.encode_images(given.images)
    seen: set[int] = set()
    for seed in range(40):
        torch.manual_seed(seed)
        images, targets = task.choose_images(model, features, rows.images, rows.targets)
        seen |= set(images.flatten().tolist())
        shown = images == rows.images
        for label, (first, second) in zip(targets["label"].tolist(), shown.tolist(), strict=True):
            assert (first, second) == (label == 0, label == 1)
    assert seen == {1, 2, 3}


def test_two_distinct_images_are_too_few(model: X2VLM) -> None:
    features = model.encode_images(torch.rand(2, 3, 16, 16))
    with pytest.raises(ShapeError, match="at least 3 distinct images a step, found 2"):
        TextAssignment().build().choose_images(model, features, torch.tensor([[0], [1], [1]]), {})


class FixedDraws(TextAssignmentTask):
    """The same images in every step."""

    def assign(self, projected: Tensor, own: Tensor) -> Assignment:
        images = torch.stack([own, (own + 1) % len(projected)], 1)
        return Assignment(images, torch.zeros_like(own))


def test_a_step_in_parts_equals_the_whole_step(model: X2VLM) -> None:
    given, tasks = batch(model), {"rows": FixedDraws(TextAssignment())}
    loss = step_losses(model, given, ACTIVE, tasks=tasks)["rows"]["assignment"]
    loss.backward()
    whole = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    in_parts = accumulate(model, given, ACTIVE, 2, lambda *_: 1.0, tasks=tasks)["rows"]["assignment"]
    torch.testing.assert_close(in_parts, loss.detach())
    for name, value in model.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(value.grad, whole[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("heads", "missing"),
    [
        (HEADS, {}),
        (
            HeadsConfig(built=()),
            {
                "built": "no contrastive head; add itc",
                "extra": "missing: assignment, a LinearHead with 3 outputs",
            },
        ),
        (
            HeadsConfig(built=("itc",), extra={"assignment": LinearHead(outputs=2)}),
            {"extra.assignment.outputs": "should be 3, found 2"},
        ),
    ],
)
def test_it_needs_similarity_and_a_head_of_three_classes(heads: HeadsConfig, missing: dict[str, str]) -> None:
    assert TextAssignment().missing_heads(heads) == missing


def test_one_image_is_drawn_and_two_are_fused() -> None:
    assert TextAssignment().pairs == ((0, (0, 1)),)
    assert TextAssignment().drawn_images == 1


@pytest.mark.parametrize("field", ["image", "caption"])
def test_a_broken_record_is_named(field: str) -> None:
    record: Any = {"image": "a", "caption": "a dog", field: None}
    with pytest.raises(DataError, match=f"no {field}"):
        TextAssignment().build().draw(record, None)  # type: ignore[arg-type]


def test_it_is_not_measured() -> None:
    with pytest.raises(
        DataError, match="TextAssignment draws its images from the batch, so it has no result"
    ):
        TextAssignment().check(None)  # type: ignore[arg-type]

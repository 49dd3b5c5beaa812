"""Rows of tasks in the step: equal in one pass and in parts, beside other streams, and refused where they are wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.data.stub_tasks import Pairs, PairsTask
from tests.training.conftest import gradients, texts
from x2kit.data.pipeline.batch import Batch, TaskRows
from x2kit.errors import PluginError, ShapeError
from x2kit.model import X2VLM
from x2kit.model.x2vlm import image_context
from x2kit.plugin import FusedTexts, Texts
from x2kit.plugin.encoders import TextEncoder
from x2kit.training.step.accumulation import accumulate
from x2kit.training.step.losses import step_losses

ON = {"pairs": ("same", "length")}
TASKS = {"pairs": PairsTask(Pairs())}


def rows() -> TaskRows:
    first, second = texts([7, 5, 12, 4, 3], 16, seed=1), texts([3, 4, 5, 3, 6], 8, seed=2)
    images = torch.tensor([[0, 1], [1, 2], [2, 0], [0, 0], [1, 1]])
    targets = {"same": torch.tensor([0, 1, 1, 0, 1]), "tokens": first.mask.sum(1)}
    return TaskRows(images, (first, second), targets)


@pytest.fixture
def pairs(batch: Batch) -> Batch:
    return batch._replace(streams={"pairs": rows()})


def weight(stream: str, loss: str) -> float:
    return 2.0 if loss == "length" else 1.0


def total(losses: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
    return torch.stack(
        [value * weight(name, loss) for name, on in losses.items() for loss, value in on.items()]
    ).sum()


def test_a_task_gets_the_states_of_each_of_its_pairs(model: X2VLM, pairs: Batch) -> None:
    seen: list[Sequence[FusedTexts]] = []

    class Spy(PairsTask):
        def loss(
            self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
        ) -> dict[str, Tensor]:
            seen.append(fused)
            return super().loss(model, fused, targets)

    assert pairs.images is not None
    step_losses(model, pairs, ON, tasks={"pairs": Spy(Pairs())})
    features, of_task = model.encode_images(pairs.images), rows()
    for fused, (text, image) in zip(seen[0], Pairs().pairs, strict=True):
        one = of_task.texts[text]
        expected = model.fuse(
            model.encode_texts(one.ids, one.mask), one.mask, image_context(features, of_task.images[:, image])
        )
        assert_close(fused.states[one.mask], expected[one.mask], rtol=1e-5, atol=1e-5)
        assert torch.equal(fused.mask, one.mask)


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_parts_have_the_losses_and_gradients_of_the_whole(model: X2VLM, pairs: Batch, parts: int) -> None:
    whole = step_losses(model, pairs, ON, tasks=TASKS)
    expected = gradients(model, total(whole))
    found = accumulate(model, pairs, ON, parts, weight, tasks=TASKS)
    assert_close(dict(found["pairs"]), {name: value.detach() for name, value in whole["pairs"].items()})
    for name, parameter in model.named_parameters():
        if name in expected:
            assert_close(
                parameter.grad, expected[name], rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_streams_of_pretraining_beside_a_task_keep_their_losses(model: X2VLM, batch: Batch) -> None:
    on = {"images": ("itc",), "regions": ("bbox",), "alone": ("mlm",)}
    alone = step_losses(model, batch, on)
    beside = step_losses(
        model, batch._replace(streams={**batch.streams, "pairs": rows()}), {**on, **ON}, tasks=TASKS
    )
    assert beside.keys() - alone.keys() == {"pairs"}
    for stream, losses in on.items():
        for loss in losses:
            assert_close(beside[stream][loss], alone[stream][loss], rtol=1e-5, atol=1e-5)


def test_texts_with_positions_are_read_in_part(
    model: X2VLM, pairs: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def read_partly(self: TextEncoder, ids: Tensor, sees: Tensor, positions: Tensor) -> Tensor:
        calls.append((ids, sees, positions))
        return self(ids, sees.diagonal(dim1=1, dim2=2))

    monkeypatch.setattr(type(model.text), "read_partly", read_partly)
    of_task = rows()
    first = of_task.texts[0]
    sees = (first.mask[:, None] & first.mask[:, :, None]).tril()
    positions = torch.arange(first.ids.shape[1]).expand_as(first.ids)
    causal = of_task._replace(texts=(Texts(first.ids, sees, positions), of_task.texts[1]))

    class Same(PairsTask):
        def loss(
            self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
        ) -> dict[str, Tensor]:
            return {"same": fused[0].states.square().mean()}

    of_stream = pairs._replace(streams={"pairs": causal})
    losses = step_losses(model, of_stream, {"pairs": ("same",)}, tasks={"pairs": Same(Pairs())})
    assert [each.shape for each in calls[0]] == [first.ids.shape, sees.shape, positions.shape]
    assert losses["pairs"]["same"].isfinite()


def test_a_batch_without_images_is_refused(model: X2VLM, pairs: Batch) -> None:
    with pytest.raises(ShapeError, match="stream pairs: Pairs has rows without an image"):
        step_losses(model, pairs._replace(images=None), ON, tasks=TASKS)


@pytest.mark.parametrize(
    ("value", "found"),
    [(None, "None"), (torch.ones(2), r"\[2\] torch.float32"), (torch.tensor(1), r"\[\] torch.int64")],
)
def test_a_loss_that_is_no_scalar_is_refused(model: X2VLM, pairs: Batch, value: Any, found: str) -> None:
    class Wrong(PairsTask):
        def loss(
            self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
        ) -> dict[str, Tensor]:
            return {"same": value}

    with pytest.raises(PluginError, match=f"task Pairs: the loss same .*found {found}"):
        step_losses(model, pairs, {"pairs": ("same",)}, tasks={"pairs": Wrong(Pairs())})


def test_an_error_in_a_task_names_the_task(model: X2VLM, pairs: Batch) -> None:
    class Broken(PairsTask):
        def loss(
            self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
        ) -> dict[str, Tensor]:
            raise KeyError("label")

    with pytest.raises(PluginError, match=r"task Pairs.*KeyError"):
        step_losses(model, pairs, ON, tasks={"pairs": Broken(Pairs())})

"""The checks of losses: each mistake is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.testing.wrong.tasks.network import TruthTask
from tests.testing.wrong.tasks.right import HEADS, RECORDS, RightTask, TruthHead
from x2kit.plugin import FusedTexts
from x2kit.testing import checks

Loss = Callable[[TruthTask, Any, Sequence[FusedTexts], Mapping[str, Tensor]], dict[str, Any]]


def learning(loss: Loss, counts: Tensor | None = None) -> RightTask:
    """A task with another loss."""

    class Learning(TruthTask):
        def loss(
            self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
        ) -> dict[str, Any]:
            return loss(self, model, fused, targets)

        def counts(self, loss: str, targets: Mapping[str, Tensor]) -> Tensor | None:
            return counts

    class Wrong(RightTask):
        def network(self) -> Any:
            return Learning

    return Wrong()


def truth(task: TruthTask, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]) -> Tensor:
    return TruthTask.loss(task, model, fused, targets)["truth"]


def rows(task: TruthTask, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]) -> Tensor:
    return F.cross_entropy(task.logits(model, fused), targets["label"], reduction="none")


def blind(task: TruthTask, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]) -> Tensor:
    return model.extra_heads["truth"](torch.zeros(1, 16)).square().sum()


def unreached(
    task: TruthTask, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
) -> Tensor:
    return fused[0].states[:, 0, 0].sigmoid().mean()


def centred(
    task: TruthTask, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
) -> Tensor:
    logits = task.logits(model, fused)
    return F.cross_entropy(logits - logits.mean(0), targets["label"])


class Unaware(RightTask):
    def missing_heads(self, heads: Any) -> Mapping[str, str]:
        return {}


class Misnaming(RightTask):
    def missing_heads(self, heads: Any) -> Mapping[str, str]:
        return {} if heads.extra else {"model.heads.extra": "missing"}


MISTAKES = [
    (Unaware(), "missing_heads_are_named", r"without model\.heads\.extra\.truth missing_heads names nothing, and it"),
    (Misnaming(), "missing_heads_are_named", r"missing_heads names model\.heads\.extra, no setting of model\.heads"),
    (learning(lambda *given: {}), "losses_are_finite_scalars", r"loss\(\) gives nothing, declared are truth"),
    (
        learning(lambda *given: {"truth": truth(*given), "other": truth(*given)}),
        "losses_are_finite_scalars",
        r"loss\(\) gives truth, other, declared are truth",
    ),
    (learning(lambda *given: {"truth": rows(*given)}), "losses_are_finite_scalars", r"truth is \[4\] torch\.float32"),
    (learning(lambda *given: {"truth": 0.5}), "losses_are_finite_scalars", "truth is float, expected a floating-point"),
    (learning(lambda *given: {"truth": truth(*given) / 0}), "losses_are_finite_scalars", "truth is inf"),
    (learning(lambda *given: {"truth": truth(*given).detach()}), "losses_are_finite_scalars", "truth has no graph"),
    (
        learning(lambda *given: {"truth": (truth(*given) * 0).sqrt()}),
        "gradients_reach_the_model",
        "the gradient of truth is not finite",
    ),
    (
        learning(lambda *given: {"truth": blind(*given)}),
        "gradients_reach_the_model",
        "truth does not depend on the fused states",
    ),
    (
        learning(lambda *given: {"truth": unreached(*given)}),
        "gradients_reach_the_model",
        r"no gradient reaches extra_heads\.truth\.weight",
    ),
    (learning(lambda *given: {"truth": rows(*given).sum()}), "rows_do_not_mix", "from the means of its parts"),
    (learning(lambda *given: {"truth": centred(*given)}), "rows_do_not_mix", "let rows not see each other"),
    (
        learning(lambda *given: {"truth": truth(*given)}, torch.tensor([1, 0, 1, 0])),
        "rows_do_not_mix",
        r"return in counts\(\) what the mean is over",
    ),
    (
        learning(lambda *given: {"truth": truth(*given)}, torch.tensor([1])),
        "rows_do_not_mix",
        r"counts\(\) of truth is \[1\], expected \[B\]",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "name", "said"), MISTAKES)
def test_each_mistake_is_named(wrong: RightTask, name: str, said: str) -> None:
    law = {check.__name__: check for check in checks("task")}[name]
    with pytest.raises(AssertionError, match=f"{name}: .*{said}"):
        law(wrong, records=RECORDS, heads=HEADS)


class Reversed(torch.autograd.Function):
    """The identity, whose gradient has the other sign."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return -gradient


def test_a_loss_that_rises_is_named() -> None:
    law = {check.__name__: check for check in checks("task")}["training_lowers_the_loss"]
    wrong = learning(lambda *given: {"truth": Reversed.apply(truth(*given))})
    with pytest.raises(AssertionError, match="20 steps on the same rows raise it"):
        law(wrong, records=RECORDS, heads=HEADS)


def test_a_loss_over_what_counts_says_passes() -> None:
    """A mean over the rows whose text is true, of which some parts have none."""

    class Counted(TruthTask):
        def counts(self, loss: str, targets: Mapping[str, Tensor]) -> Tensor | None:
            return targets["label"]

        def loss(
            self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
        ) -> dict[str, Tensor]:
            weights = targets["label"] / targets["label"].sum().clamp(min=1)
            return {"truth": (rows(self, model, fused, targets) * weights).sum()}

    class Right(RightTask):
        def network(self) -> Any:
            return Counted

    law = {check.__name__: check for check in checks("task")}["rows_do_not_mix"]
    law(Right(), records=RECORDS[1:] + RECORDS[:1], heads={**HEADS, "extra": {"truth": TruthHead()}})

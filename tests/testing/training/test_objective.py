"""The checks of objectives: a right one passes, each mistake is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from x2kit.plugin import MeanOver, ObjectiveConfig, StreamFeatures
from x2kit.testing import checks

FORMULA: list[Callable[[], Any]] = []


def check(component: ObjectiveConfig) -> None:
    """All checks but that of imports: this module has torch."""
    for one in checks("objective"):
        if one.__name__ != "the_module_imports_no_torch":
            one(component)


class Pairs(ObjectiveConfig):
    """Over pairs; the formula is a test's."""

    def build(self) -> Any:
        return FORMULA[0]()


class Rows(ObjectiveConfig):
    """Over rows; the formula is a test's."""

    over: ClassVar[MeanOver] = "rows"

    def build(self) -> Any:
        return FORMULA[0]()


def distance(features: StreamFeatures) -> Tensor:
    return (features.first - features.second).square().sum(1).mean()


def tokens(features: StreamFeatures) -> Tensor:
    return (
        distance(features)
        + torch.stack([text.tokens.float().square().mean() for text in features.texts]).sum()
    )


@pytest.mark.parametrize(
    ("component", "formula"), [(Pairs(), distance), (Rows(), tokens), (Rows(), distance)]
)
def test_a_right_one_passes(component: ObjectiveConfig, formula: Any) -> None:
    FORMULA[:] = [lambda: formula]
    check(component)


class Learns(nn.Linear):
    def forward(self, features: Any) -> Tensor:
        return distance(features)


class Counts:
    calls = 0

    def __call__(self, features: StreamFeatures) -> Tensor:
        self.calls += 1
        return distance(features) * self.calls


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        (lambda: 5, r"build\(\) gives int, which cannot be called"),
        (lambda: Learns(2, 2), "it has parameters, weight, bias, which nothing would train or save"),
        (lambda: lambda f: (f.first - f.second).square().sum(1), "it is no scalar"),
        (lambda: lambda f: distance(f).bfloat16(), "make its inputs float"),
        (lambda: lambda f: distance(f) / 0, "of a stream of images with torch.float32 it is inf"),
        (lambda: lambda f: distance(f) + f.summary.float().mean(), "it raised AttributeError: 'NoneType'"),
        (lambda: lambda f: distance(f).detach(), "the loss has no graph"),
        (lambda: lambda f: distance(f) * 0, "all gradients are 0"),
        (lambda: lambda f: distance(f) + (f.first - f.first).abs().sqrt().sum(), "a gradient is not finite"),
        (lambda: lambda f: distance(f) * torch.rand(()), "it draws random numbers"),
        (Counts, "two calls on the same features give different losses"),
        (lambda: lambda f: (f.first[0] - f.second[0]).square().sum(), "rows in another order have the loss"),
        (lambda: tokens, 'it uses texts or summary.*over: ClassVar = "rows"'),
    ],
)
def test_each_mistake_is_found(formula: Any, said: str) -> None:
    FORMULA[:] = [formula]
    with pytest.raises(AssertionError, match=said):
        check(Pairs())

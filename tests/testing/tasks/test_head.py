"""The checks of heads: each mistake is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from x2kit.plugin import HeadConfig
from x2kit.testing import Unchecked, checks

MODULE: list[Callable[[int], Any]] = []


class AnyHead(HeadConfig):
    """Its module is a test's."""

    def build(self, width: int) -> nn.Module:
        module: nn.Module = MODULE[0](width)
        return module


def laws() -> dict[str, Any]:
    return {check.__name__: check for check in checks("head")}


class Centred(nn.Linear):
    def forward(self, states: Tensor) -> Tensor:
        return super().forward(states - states.mean(0))


class Unsaved(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = torch.randn(width)

    def forward(self, states: Tensor) -> Tensor:
        return states @ self.weight


class Noisy(nn.Linear):
    def forward(self, states: Tensor) -> Tensor:
        return super().forward(states) + torch.rand(1)


class Unused(nn.Linear):
    def __init__(self, width: int) -> None:
        super().__init__(width, 2)
        self.other = nn.Linear(width, 2)


class Pair(nn.Bilinear):
    """Compares two states."""


MISTAKES = [
    (lambda width: 3, "it_builds_for_any_width", "has no attribute|expected a module"),
    (
        lambda width: nn.Linear(16, 2),
        "it_builds_for_any_width",
        "it raised RuntimeError: mat1 and mat2 shapes",
    ),
    (lambda width: Centred(width, 2), "rows_do_not_mix", "a row alone has another output than in a batch"),
    (lambda width: Noisy(width, 2), "evaluation_is_deterministic", "two runs in eval mode differ"),
    (Unsaved, "saved_and_loaded_it_is_the_same", "it computes something else"),
    (Unsaved, "every_tensor_moves_with_it", "moved to another device, weight stays behind"),
    (Unused, "gradients_reach_every_parameter", r"no gradient reaches other\.weight"),
]


@pytest.mark.parametrize(("module", "name", "said"), MISTAKES)
def test_each_mistake_is_named(module: Callable[[int], Any], name: str, said: str) -> None:
    MODULE[:] = [module]
    with pytest.raises(AssertionError, match=f"AnyHead: {name}: .*({said})"):
        laws()[name](AnyHead())


def test_a_head_with_other_inputs_is_given_them() -> None:
    MODULE[:] = [lambda width: Pair(width, width, 2)]
    with pytest.raises(Unchecked, match=r"forward\(\) does not take 1 tensors: .*; give inputs=lambda width"):
        laws()["rows_do_not_mix"](AnyHead())
    for name, law in laws().items():
        if name != "the_module_imports_no_torch":  # this module has torch
            law(AnyHead(), inputs=lambda width: (torch.randn(4, width), torch.randn(4, width)))

"""The checks of optimisers: a right one passes, each mistake is found."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from x2kit.plugin import OptimizerConfig, Sharding
from x2kit.testing import checks

UPDATE: list[Callable[[Tensor, dict[str, Any], dict[str, Any]], None]] = []


def check(component: OptimizerConfig) -> None:
    """All checks but that of imports: this module has torch."""
    for one in checks("optimizer"):
        if one.__name__ != "the_module_imports_no_torch":
            one(component)


class Momentum(torch.optim.Optimizer):
    """Its update of a parameter is a test's."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    UPDATE[0](parameter, self.state[parameter], group)


class Right(OptimizerConfig):
    """A signed momentum; its update is a test's."""

    def state_size(self, shape: tuple[int, ...], matrix: bool) -> int:
        """One value for each element."""
        return prod(shape)

    def build(self, groups: Any) -> Any:
        """Build it."""
        return Momentum(groups, {})


class Whole(Right):
    """Of whole parameters."""

    sharding: ClassVar[Sharding] = "none"


class Counting(Right):
    """Its groups count."""

    counters: ClassVar[tuple[str, ...]] = ("count",)

    def build(self, groups: Any) -> Any:
        """Build it."""
        return Momentum(groups, {"count": 0})


class Forgets(Counting):
    """It does not say that its groups count."""

    counters: ClassVar[tuple[str, ...]] = ()


class Larger(Right):
    """It says that it keeps two values for each element."""

    def state_size(self, shape: tuple[int, ...], matrix: bool) -> int:
        """Two."""
        return 2 * prod(shape)


class Regroups(Right):
    """Its groups lose their keys."""

    def build(self, groups: Any) -> Any:
        """Build it."""
        return torch.optim.SGD([parameter for group in groups for parameter in group["params"]], lr=0.01)


class Drops(Right):
    """It leaves out all but matrices."""

    def build(self, groups: Any) -> Any:
        """Build it."""
        return Momentum([group for group in groups if group["matrices"]], {})


def signed(parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    average = state.setdefault("average", torch.zeros_like(parameter))
    assert parameter.grad is not None
    average.lerp_(parameter.grad, 0.1)
    parameter.sub_(group["lr"] * average.sign())


def of_whole(parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    signed(parameter, state, group)
    assert parameter.grad is not None
    parameter.sub_(0.1 * group["lr"] * parameter.grad / parameter.grad.norm())


def counted(parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    group["count"] += parameter is group["params"][0]
    signed(parameter, state, {"lr": group["lr"] / (1 + group["count"] / 100)})


def fixed(parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    signed(parameter, state, {"lr": 0.01})


def upwards(parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    signed(parameter, state, {"lr": -group["lr"]})


def hidden(parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    HIDDEN[parameter] = HIDDEN.get(parameter, 0) + 1
    signed(parameter, state, {"lr": group["lr"] / HIDDEN[parameter]})


HIDDEN: dict[Tensor, int] = {}


def drawn(parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    signed(parameter, state, {"lr": group["lr"] * (1 + 0 * float(torch.rand(())))})


@pytest.mark.parametrize(
    ("component", "update"), [(Right(), signed), (Whole(), of_whole), (Counting(), counted)]
)
def test_a_right_one_passes(component: OptimizerConfig, update: Any) -> None:
    UPDATE[:] = [update]
    check(component)


@pytest.mark.parametrize(
    ("component", "update", "said"),
    [
        (Regroups(), signed, "a group of the optimiser has lost names, peak, matrices"),
        (Drops(), signed, "no group has embedding"),
        (Right(), upwards, "is farther from the minimum after 60 steps"),
        (Right(), fixed, "wide with the rate 0.0 moves"),
        (Right(), hidden, "matrix differs after a resume; keep state in `state`"),
        (Forgets(), counted, "name counts in groups in `counters`"),
        (Larger(), signed, r"it keeps 48 values for a parameter \[8, 6\], state_size\(\) says 96"),
        (Right(), of_whole, "half of matrix is updated differently from the whole"),
        (Right(), drawn, "it changes the state of torch's random numbers"),
    ],
)
def test_each_mistake_is_found(component: OptimizerConfig, update: Any, said: str) -> None:
    UPDATE[:] = [update]
    with pytest.raises(AssertionError, match=said):
        check(component)

"""The official update rule against a scalar implementation."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from x2kit.model import X2VLM
from x2kit.training.config import TrainingConfig
from x2kit.training.optim import config
from x2kit.training.optim.official_adamw import OfficialAdamW
from x2kit.training.optim.optimizer import build_optimizer

SETTINGS = {"lr": 0.1, "betas": (0.9, 0.98), "eps": 1e-2, "weight_decay": 0.3}
"""A large epsilon and decay, so that their position in the rule changes the result."""


def by_hand(
    p: float,
    gradients: list[float],
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> Iterator[float]:
    """Return the parameter after each update of the scalar rule."""
    (beta1, beta2), m, v = betas, 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        p -= lr * math.sqrt(1 - beta2**t) / (1 - beta1**t) * m / (math.sqrt(v) + eps)
        p -= lr * weight_decay * p
        yield p


def parameters(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in shapes]


def gradients_of(step: int, owned: list[nn.Parameter]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1 + step)
    return [torch.randn(parameter.shape, generator=generator, dtype=torch.float64) for parameter in owned]


def update(optimizer: torch.optim.Optimizer, owned: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        for parameter, gradient in zip(owned, gradients_of(step, owned), strict=True):
            parameter.grad = gradient
        optimizer.step()


def test_every_element_follows_the_rule() -> None:
    owned = parameters((3, 2), (4,), ())
    before = [parameter.detach().clone() for parameter in owned]
    update(OfficialAdamW(owned, **SETTINGS), owned, range(5))
    for number, (parameter, start) in enumerate(zip(owned, before, strict=True)):
        gradients = torch.stack([gradients_of(step, owned)[number].flatten() for step in range(5)], 1)
        expected = [
            list(by_hand(p, g, **SETTINGS))[-1]
            for p, g in zip(start.flatten().tolist(), gradients.tolist(), strict=True)
        ]
        assert_close(parameter.flatten().tolist(), expected)


def test_groups_have_their_own_rate_and_decay() -> None:
    first, second = parameters((2,), (2,))
    starts = first.tolist(), second.tolist()
    optimizer = OfficialAdamW(
        [{"params": [first], "lr": 0.02, "weight_decay": 0.0}, {"params": [second]}], **SETTINGS
    )
    first.grad, second.grad = torch.ones_like(first), torch.ones_like(second)
    optimizer.step()
    own = SETTINGS | {"lr": 0.02, "weight_decay": 0.0}
    assert_close(first.tolist(), [next(by_hand(p, [1.0], **own)) for p in starts[0]])
    assert_close(second.tolist(), [next(by_hand(p, [1.0], **SETTINGS)) for p in starts[1]])


def test_parameter_without_gradient_is_unchanged_and_not_counted() -> None:
    always, sometimes = parameters((2,), (2,))
    starts = sometimes.tolist()
    optimizer = OfficialAdamW([always, sometimes], **SETTINGS)
    for step in range(3):
        always.grad, sometimes.grad = torch.ones_like(always), None if step < 2 else torch.ones_like(always)
        optimizer.step()
        if step < 2:
            assert sometimes.tolist() == starts  # not even decayed
    assert_close(sometimes.tolist(), [next(by_hand(p, [1.0], **SETTINGS)) for p in starts])


def test_restored_state_continues_with_equal_updates() -> None:
    straight, resumed = parameters((3, 2), (4,)), parameters((3, 2), (4,))
    update(OfficialAdamW(straight, **SETTINGS), straight, range(6))
    first = OfficialAdamW(resumed, **SETTINGS)
    update(first, resumed, range(3))
    second = OfficialAdamW(resumed, **SETTINGS)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    update(second, resumed, range(3, 6))
    assert all(torch.equal(one, other) for one, other in zip(straight, resumed, strict=True))


def test_closure_runs_with_gradients_and_its_loss_is_returned() -> None:
    (parameter,) = parameters((2,))
    optimizer = OfficialAdamW([parameter], **SETTINGS)

    def closure() -> float:
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss.item()

    expected = parameter.square().sum().item()
    assert optimizer.step(closure) == expected
    assert parameter.square().sum().item() < expected


@pytest.mark.parametrize(
    "change", [{"eps": 1e-12, "weight_decay": 0.0}, {"weight_decay": 0.0}, {"eps": 1e-12}]
)
def test_rule_differs_from_torch_by_epsilon_and_order_of_decay_alone(change: dict[str, float]) -> None:
    settings = SETTINGS | change
    official, torchs = parameters((50,)), parameters((50,))
    update(OfficialAdamW(official, **settings), official, range(3))
    update(torch.optim.AdamW(torchs, **settings), torchs, range(3))  # type: ignore[arg-type]
    same = torch.allclose(official[0], torchs[0], rtol=0, atol=1e-7)
    assert same == (len(change) == 2)


@pytest.mark.parametrize(
    ("component", "kind"), [(config.OfficialAdamW, OfficialAdamW), (config.AdamW, torch.optim.AdamW)]
)
def test_recipe_key_selects_the_rule(
    model: X2VLM, component: type[config.AdamW], kind: type[torch.optim.Optimizer]
) -> None:
    chosen = TrainingConfig(steps=1, optimizer=component(betas=(0.8, 0.9), eps=1e-6))
    optimizer = build_optimizer(model, chosen)
    assert type(optimizer) is kind
    assert {(group["betas"], group["eps"]) for group in optimizer.param_groups} == {((0.8, 0.9), 1e-6)}

"""Updates of the optimisers, by hand and by torch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from x2kit_optimizers import Lion, Muon

from x2kit.plugin import ParameterGroup


def parameters(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=draw)) for shape in shapes]


def group(owned: list[nn.Parameter], rate: float, matrices: bool = False) -> ParameterGroup:
    names = [str(number) for number in range(len(owned))]
    return ParameterGroup(params=owned, names=names, lr=rate, peak=rate, weight_decay=0.1, matrices=matrices)


def set_gradients(owned: list[nn.Parameter], step: int) -> None:
    draw = torch.Generator().manual_seed(1 + step)
    for parameter in owned:
        parameter.grad = torch.randn(parameter.shape, generator=draw)


def test_lion_follows_algorithm_2_of_its_paper() -> None:
    owned = parameters((3, 2), ())
    expected = [parameter.detach().clone() for parameter in owned]
    momenta = [torch.zeros_like(value) for value in expected]
    optimizer = Lion(betas=(0.8, 0.9)).build([group(owned, 0.05)])
    for step in range(4):
        set_gradients(owned, step)
        for number, parameter in enumerate(owned):
            gradient: Any = parameter.grad
            update = (0.8 * momenta[number] + 0.2 * gradient).sign()
            expected[number] = expected[number] - 0.05 * (update + 0.1 * expected[number])
            momenta[number] = 0.9 * momenta[number] + 0.1 * gradient
        optimizer.step()
    assert_close([parameter.detach() for parameter in owned], expected)


def muon_and_others() -> tuple[list[nn.Parameter], list[nn.Parameter], torch.optim.Optimizer]:
    matrices, others = parameters((4, 6), (6, 2)), parameters((5,), (3, 3))
    groups = [group(others, 0.05), group(matrices, 0.05, matrices=True)]
    return matrices, others, Muon(lr_mult=2.0, betas=(0.9, 0.98)).build(groups)


def test_muon_updates_matrices_and_adamw_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU as torch does, but in float32."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.float)
    matrices, others, optimizer = muon_and_others()
    alone, rest = parameters((4, 6), (6, 2)), parameters((5,), (3, 3))
    muon = torch.optim.Muon(alone, lr=0.1, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(rest, lr=0.05, weight_decay=0.1, betas=(0.9, 0.98), fused=True)
    for step in range(3):
        for owned in (matrices, others, alone, rest):
            set_gradients(owned, step)
        for each in (optimizer, muon, adamw):
            each.step()
    assert_close([one.detach() for one in matrices], [one.detach() for one in alone], rtol=1e-5, atol=1e-6)
    assert all(torch.equal(one, other) for one, other in zip(others, rest, strict=True))


@pytest.mark.parametrize("shape", [(4, 6), (6, 2), (5, 5)])
def test_muon_moves_a_matrix_by_one_with_singular_values_near_1(shape: tuple[int, int]) -> None:
    (matrix,) = parameters(shape)
    optimizer = Muon().build([group([matrix], 0.05, matrices=True)])
    before, decay = matrix.detach().clone(), 1 - 0.05 * 0.1
    set_gradients([matrix], 0)
    optimizer.step()
    moved = (before * decay - matrix.detach()) / (0.05 * 0.2 * max(shape) ** 0.5)
    values = torch.linalg.svdvals(moved)
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_rates_of_both_are_set_after_loading_a_state() -> None:
    matrices, others, optimizer = muon_and_others()
    set_gradients([*matrices, *others], 0)
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    before = [parameter.detach().clone() for parameter in (*matrices, *others)]
    for each in optimizer.param_groups:
        each["lr"] = 0.0
    optimizer.step()
    assert all(torch.equal(p, b) for p, b in zip((*matrices, *others), before, strict=True))


def test_a_gradient_scaler_sees_the_gradients_of_both() -> None:
    matrices, others, optimizer = muon_and_others()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    owned = [*matrices, *others]
    scaler.scale(torch.stack([parameter.sum() for parameter in owned]).sum()).backward()
    scaler.unscale_(optimizer)
    gradients: list[Tensor | None] = [parameter.grad for parameter in owned]
    assert_close(gradients, [torch.ones_like(parameter) for parameter in owned])


@pytest.mark.parametrize("matrices", [True, False])
def test_either_part_may_have_no_parameters(matrices: bool) -> None:
    owned = parameters((4, 6))
    optimizer = Muon().build([group(owned, 0.05, matrices)])
    before = owned[0].detach().clone()
    set_gradients(owned, 0)
    optimizer.step()
    assert not torch.equal(owned[0], before)
    assert set(optimizer.state[owned[0]]) == (
        {"momentum_buffer"} if matrices else {"step", "exp_avg", "exp_avg_sq"}
    )

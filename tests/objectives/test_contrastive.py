from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from x2kit.errors import ShapeError
from x2kit.objectives import contrastive_logits, itc_loss


def naive_itc(logits: Tensor, group: list[int]) -> float:
    """Row by row, column by column: the mean of -log p over the positives of each."""

    def one(answers: list[float], own: int) -> float:
        total = math.log(sum(math.exp(value) for value in answers))
        right = [i for i in range(len(answers)) if group[i] == group[own]]
        return sum(total - answers[i] for i in right) / len(right)

    table = logits.tolist()
    columns = logits.T.tolist()
    rows = range(len(table))
    return (sum(one(table[i], i) for i in rows) + sum(one(columns[i], i) for i in rows)) / (2 * len(table))


@st.composite
def logits_and_groups(draw: st.DrawFn) -> tuple[Tensor, list[int]]:
    count = draw(st.integers(1, 7))
    seed = draw(st.integers(0, 2**16))
    group = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    return 4 * torch.randn(count, count, generator=torch.Generator().manual_seed(seed)), group


@settings(max_examples=50)
@given(logits_and_groups())
def test_the_loss_equals_its_row_by_row_form(drawn: tuple[Tensor, list[int]]) -> None:
    logits, group = drawn
    # float32 sums of at most seven terms
    assert_close(itc_loss(logits, torch.tensor(group)).item(), naive_itc(logits, group), rtol=1e-5, atol=1e-5)


def test_the_loss_of_two_rows_computed_by_hand() -> None:
    logits = torch.tensor([[math.log(3), 0.0], [math.log(2), math.log(4)]])
    by_row = -(math.log(3 / 4) + math.log(4 / 6)) / 2
    by_column = -(math.log(3 / 5) + math.log(4 / 5)) / 2
    assert_close(itc_loss(logits).item(), (by_row + by_column) / 2)


def test_groups_of_one_row_change_nothing() -> None:
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    assert_close(itc_loss(logits, torch.tensor([9, 4, 2, 7, 0])), itc_loss(logits))


def test_a_single_group_has_a_uniform_target() -> None:
    even = torch.zeros(4, 4, requires_grad=True)
    loss = itc_loss(even, torch.zeros(4, dtype=torch.int64))
    assert_close(loss.item(), math.log(4))
    loss.backward()
    assert_close(even.grad, torch.zeros(4, 4))


@settings(max_examples=20)
@given(logits_and_groups(), st.randoms())
def test_the_order_of_rows_changes_nothing(drawn: tuple[Tensor, list[int]], random: object) -> None:
    logits, group = drawn
    order = list(range(len(group)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = itc_loss(logits[order][:, order], torch.tensor(group)[order])
    assert_close(shuffled, itc_loss(logits, torch.tensor(group)), rtol=1e-5, atol=1e-5)


def test_logits_that_are_not_square_are_rejected() -> None:
    with pytest.raises(ShapeError, match=r"square, found \[2, 3\]"):
        itc_loss(torch.zeros(2, 3))


def test_logits_are_similarity_over_temperature() -> None:
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    assert_close(contrastive_logits(first, second, torch.tensor(0.5)), torch.tensor([[1.2, 0.0]]))


def test_logits_stay_in_float32_under_autocast() -> None:
    first, second = (
        F.normalize(torch.randn(6, 32, generator=torch.Generator().manual_seed(i)), dim=1) for i in (0, 1)
    )
    plain = contrastive_logits(first, second, torch.tensor(0.01))
    with torch.autocast("cpu", torch.bfloat16):
        cast = contrastive_logits(first, second, torch.tensor(0.01))
    assert cast.dtype == torch.float32
    assert_close(cast, plain, rtol=0, atol=0)

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from x2kit.errors import ShapeError
from x2kit.objectives import draw_negatives, negative_weights
from x2kit.objectives.matching import FLOOR


@st.composite
def logits_and_groups(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    count = draw(st.integers(2, 8))
    seed = draw(st.integers(0, 2**16))
    scale = draw(st.sampled_from([0.0, 1.0, 100.0]))  # 100 underflows in the softmax: only the floor is left
    group = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    return (
        scale * torch.randn(count, count, generator=torch.Generator().manual_seed(seed)),
        torch.tensor(group),
    )


@settings(max_examples=60)
@given(logits_and_groups())
def test_a_negative_is_never_of_the_own_group(drawn: tuple[Tensor, Tensor]) -> None:
    logits, group = drawn
    columns, valid = draw_negatives(negative_weights(logits, group))
    assert (group[columns] != group)[valid].all()


@settings(max_examples=60)
@given(logits_and_groups())
def test_every_row_has_a_negative_unless_all_rows_are_of_its_group(drawn: tuple[Tensor, Tensor]) -> None:
    logits, group = drawn
    _, valid = draw_negatives(negative_weights(logits, group))
    assert valid.all() if len(group.unique()) > 1 else not valid.any()


def test_weights_are_softmax_and_floor() -> None:
    logits = torch.tensor([[5.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 5.0]])
    weights = negative_weights(logits, torch.tensor([0, 0, 1]))
    share = 1 / (torch.tensor(5.0).exp().item() + 2) + FLOOR
    assert_close(weights, torch.tensor([[0, 0, share], [0, 0, share], [share, share, 0]]))


def test_without_groups_only_the_own_row_is_left_out() -> None:
    weights = negative_weights(torch.zeros(3, 3))
    assert_close(weights, (1 / 3 + FLOOR) * (1 - torch.eye(3)))


def test_weights_carry_no_gradient() -> None:
    assert not negative_weights(torch.zeros(2, 2, requires_grad=True)).requires_grad


def test_negatives_come_as_often_as_their_weight_says() -> None:
    torch.manual_seed(0)
    shares = torch.tensor([0.0, 0.1, 0.2, 0.7])
    columns, _ = draw_negatives(shares.repeat(20000, 1))
    found = columns.bincount(minlength=4) / 20000
    # the standard deviation of a share is at most 0.0036
    assert_close(found, shares, rtol=0, atol=0.015)
    assert found[0] == 0


def test_rows_draw_apart_from_each_other() -> None:
    torch.manual_seed(0)
    columns, _ = draw_negatives(negative_weights(torch.zeros(64, 64)))
    assert len(columns.unique()) > 20


def test_the_draw_follows_the_seed() -> None:
    weights = negative_weights(torch.zeros(32, 32))

    def draw(seed: int) -> list[int]:
        torch.manual_seed(seed)
        return draw_negatives(weights)[0].tolist()

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_a_batch_of_one_is_refused() -> None:
    message = "hard negatives need at least 2 rows a stream and step, found 1"
    with pytest.raises(ShapeError, match=message):
        negative_weights(torch.zeros(1, 1))

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from x2kit.errors import ShapeError
from x2kit.objectives import draw_negatives, itm_loss, negative_weights
from x2kit.objectives.matching import FLOOR, describe_collapse


def odds(*ratios: float) -> torch.Tensor:
    """Logits whose class 1 is `ratio` times as likely as class 0."""
    return torch.tensor([[0.0, math.log(ratio)] for ratio in ratios])


def test_only_the_first_third_is_matched() -> None:
    # p(matched) is 3/4 for the matched pair, 1/4 and 1/2 for the negatives
    loss = itm_loss(odds(3, 1 / 3, 1))
    assert_close(loss.item(), -(math.log(3 / 4) + math.log(3 / 4) + math.log(1 / 2)) / 3)


def test_the_order_within_a_third_changes_nothing() -> None:
    logits = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    assert_close(itm_loss(logits[[2, 0, 1, 4, 5, 3, 8, 7, 6]]), itm_loss(logits))
    assert not torch.isclose(itm_loss(logits[[3, 4, 5, 0, 1, 2, 6, 7, 8]]), itm_loss(logits))


def test_rows_without_a_negative_do_not_count() -> None:
    logits = odds(3, 5, 1 / 3, 7, 1, 9)
    valid = torch.tensor([True, True, True, False, True, False])
    expected = -(math.log(3 / 4) + math.log(5 / 6) + math.log(3 / 4) + math.log(1 / 2)) / 4
    assert_close(itm_loss(logits, valid).item(), expected)


def test_the_loss_and_its_gradient_are_zero_if_no_row_counts() -> None:
    logits = odds(1, 1, 1).requires_grad_()
    loss = itm_loss(logits, torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("shape", [(4, 2), (3, 3), (6,)])
def test_logits_that_do_not_divide_into_thirds_are_rejected(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as error:
        itm_loss(torch.zeros(shape))
    assert "[3B, 2]" in str(error.value)
    assert str(list(shape)) in str(error.value)


def test_half_precision_logits_give_a_float32_loss() -> None:
    assert itm_loss(odds(1, 1, 1).bfloat16()).dtype == torch.float32


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
def test_a_negative_is_never_of_the_same_group(drawn: tuple[Tensor, Tensor]) -> None:
    logits, group = drawn
    columns, valid = draw_negatives(negative_weights(logits, group))
    assert (group[columns] != group)[valid].all()


@settings(max_examples=60)
@given(logits_and_groups())
def test_every_row_has_a_negative_unless_all_rows_share_its_group(drawn: tuple[Tensor, Tensor]) -> None:
    logits, group = drawn
    _, valid = draw_negatives(negative_weights(logits, group))
    assert valid.all() if len(group.unique()) > 1 else not valid.any()


def test_weights_are_softmax_plus_floor() -> None:
    logits = torch.tensor([[5.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 5.0]])
    weights = negative_weights(logits, torch.tensor([0, 0, 1]))
    share = 1 / (torch.tensor(5.0).exp().item() + 2) + FLOOR
    assert_close(weights, torch.tensor([[0, 0, share], [0, 0, share], [share, share, 0]]))


def test_without_groups_only_the_diagonal_is_excluded() -> None:
    weights = negative_weights(torch.zeros(3, 3))
    assert_close(weights, (1 / 3 + FLOOR) * (1 - torch.eye(3)))


def test_weights_carry_no_gradient() -> None:
    assert not negative_weights(torch.zeros(2, 2, requires_grad=True)).requires_grad


def test_negatives_are_drawn_in_proportion_to_their_weight() -> None:
    torch.manual_seed(0)
    shares = torch.tensor([0.0, 0.1, 0.2, 0.7])
    columns, _ = draw_negatives(shares.repeat(20000, 1))
    found = columns.bincount(minlength=4) / 20000
    # the standard deviation of a share is at most 0.0036
    assert_close(found, shares, rtol=0, atol=0.015)
    assert found[0] == 0


def test_rows_draw_independently() -> None:
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


def test_a_batch_of_one_row_is_rejected() -> None:
    with pytest.raises(ShapeError, match=r"at least 2 rows .*found 1"):
        negative_weights(torch.zeros(1, 1))


@pytest.mark.parametrize(
    ("positive", "negative", "answer"),
    [(0.0, 1.0, '"no match"'), (1.0, 0.0, '"match"'), (0.005, 0.995, '"no match"')],
)
def test_a_head_with_one_answer_has_collapsed(positive: float, negative: float, answer: str) -> None:
    assert answer in str(describe_collapse(positive, negative))


@pytest.mark.parametrize(
    ("positive", "negative"), [(1.0, 1.0), (0.0, 0.0), (0.5, 0.5), (0.1, 1.0), (1.0, 0.3)]
)
def test_a_head_with_two_answers_has_not_collapsed(positive: float, negative: float) -> None:
    assert describe_collapse(positive, negative) is None

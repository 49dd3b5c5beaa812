from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from x2kit.errors import ShapeError
from x2kit.objectives import itm_loss


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


def test_no_row_that_counts_is_no_loss() -> None:
    logits = odds(1, 1, 1).requires_grad_()
    loss = itm_loss(logits, torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("shape", [(4, 2), (3, 3), (6,)])
def test_rows_that_are_no_thirds_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"matching logits must be \[3B, 2\], found \["):
        itm_loss(torch.zeros(shape))


def test_half_precision_logits_give_a_float32_loss() -> None:
    assert itm_loss(odds(1, 1, 1).bfloat16()).dtype == torch.float32

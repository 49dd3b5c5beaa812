from __future__ import annotations

import pytest
import torch

from x2kit.plugin import gather_rows

SHAPES = [(4,), (4, 3), (4, 3, 5)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 3, 0], [2], []])
def test_gathering_equals_indexing_forward_and_backward(shape: tuple[int, ...], rows: list[int]) -> None:
    torch.manual_seed(0)
    plain = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    fast = plain.detach().clone().requires_grad_()
    index = torch.tensor(rows, dtype=torch.int64)
    weight = torch.randn(len(rows), *shape[1:], dtype=torch.float64)
    picked = gather_rows(fast, index)
    assert torch.equal(picked, plain[index])
    (plain[index] * weight).sum().backward()
    (picked * weight).sum().backward()
    # the product of a one-hot matrix adds the same numbers, in another order
    torch.testing.assert_close(fast.grad, plain.grad, rtol=0, atol=1e-14)


def test_rows_that_nobody_picks_get_a_gradient_of_zero() -> None:
    shared = torch.ones(3, 2, requires_grad=True)
    gather_rows(shared, torch.tensor([1, 1])).sum().backward()
    assert shared.grad is not None
    assert shared.grad.tolist() == [[0, 0], [2, 2], [0, 0]]


def test_half_precision_gradients_keep_their_type() -> None:
    shared = torch.ones(3, 2, dtype=torch.bfloat16, requires_grad=True)
    gather_rows(shared, torch.tensor([2, 0])).sum().backward()
    assert shared.grad is not None
    assert shared.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("between", [(), (2,)])
def test_a_row_of_ones_own_is_put_in_front_of_the_tokens(between: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    index = torch.tensor([2, 0, 2, 1])
    shared, lead = (
        torch.randn(count, *between, length, 5, dtype=torch.float64) for count, length in ((3, 4), (4, 1))
    )
    plain = shared.clone().requires_grad_(), lead.clone().requires_grad_()
    fast = shared.clone().requires_grad_(), lead.clone().requires_grad_()
    joined = torch.cat([plain[1], plain[0][index]], -2)
    picked = gather_rows(fast[0], index, fast[1])
    assert torch.equal(picked, joined)
    weight = torch.randn_like(joined)
    (joined * weight).sum().backward()
    (picked * weight).sum().backward()
    for ours, theirs in zip(fast, plain, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-14)

"""Gathered over ranks, the contrastive loss and its gradient equal those of one process with all rows."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, distributed
from torch.nn import functional as F
from torch.testing import assert_close

from tests.objectives.processes import in_processes
from x2kit.errors import ShapeError
from x2kit.objectives import GatherGradient, contrastive_logits, gather_over_processes, itc_loss

COUNTS = (2, 0, 3)
"""Rows of each process; one has none."""
GROUP = torch.tensor([4, 7, 4, 1, 0])


class Trained(NamedTuple):
    """A loss and the gradients of parameters, averaged over processes as data-parallel training does it."""

    loss: Tensor
    image: Tensor
    text: Tensor
    temperature: Tensor


class Seen(NamedTuple):
    """What one process saw."""

    gathered: tuple[Tensor, ...]
    exact: Trained
    official: Trained
    unlike: Tensor
    """Gradient of this process's rows where every process has a loss of its own."""


def inputs() -> tuple[Tensor, Tensor]:
    """[B, 6] images and texts."""
    random = torch.Generator().manual_seed(0)
    return torch.randn(sum(COUNTS), 6, generator=random), torch.randn(sum(COUNTS), 6, generator=random)


def trained(image: Tensor, text: Tensor, group: Tensor, gradient: GatherGradient = "exact") -> Trained:
    """One step of the smallest model that has two encoders and a temperature."""
    random = torch.Generator().manual_seed(1)
    weights = [torch.randn(6, 4, generator=random).requires_grad_() for _ in range(2)]
    temperature = torch.tensor(0.2, requires_grad=True)
    features = [
        F.normalize(rows @ weight, dim=1) for rows, weight in zip((image, text), weights, strict=True)
    ]
    *gathered, group = gather_over_processes(*features, group, gradient=gradient)
    loss = itc_loss(contrastive_logits(*gathered, temperature), group)
    loss.backward()
    found = [parameter.grad for parameter in (*weights, temperature)]
    if distributed.is_initialized():
        for each in found:
            distributed.all_reduce(each)
            each /= distributed.get_world_size()
    return Trained(loss.detach(), *found)


def unlike() -> Tensor:
    """Each process multiplies the sum of all rows by another number, here its rank + 1."""
    rank = distributed.get_rank()
    own = torch.ones(COUNTS[rank], 1, requires_grad=True)
    (rows,) = gather_over_processes(own)
    ((rank + 1) * rows.sum()).backward()
    return own.grad


def seen() -> Seen:
    """In a process of several."""
    rank = distributed.get_rank()
    image, text, group = (rows.split(COUNTS)[rank] for rows in (*inputs(), GROUP))
    return Seen(
        gather_over_processes(image, group, group > 1),
        trained(image, text, group, "exact"),
        trained(image, text, group, "official"),
        unlike(),
    )


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[Seen]:
    return in_processes(len(COUNTS), tmp_path_factory.mktemp("processes"), seen)


def test_rows_are_in_rank_order(processes: list[Seen]) -> None:
    for process in processes:
        for found, whole in zip(process.gathered, (inputs()[0], GROUP, GROUP > 1), strict=True):
            assert found.dtype == whole.dtype
            assert torch.equal(found, whole)


def test_exact_loss_and_gradient_equal_those_of_one_process(processes: list[Seen]) -> None:
    for process in processes:
        assert_close(process.exact, trained(*inputs(), GROUP))


def test_official_gradient_divides_encoders_but_not_temperature_by_ranks(processes: list[Seen]) -> None:
    whole = trained(*inputs(), GROUP)
    share = Trained(whole.loss, whole.image / len(COUNTS), whole.text / len(COUNTS), whole.temperature)
    for process in processes:
        assert_close(process.official, share)


def test_gradients_of_different_losses_are_summed_for_every_row(processes: list[Seen]) -> None:
    for process, count in zip(processes, COUNTS, strict=True):
        assert torch.equal(process.unlike, torch.full((count, 1), 1.0 + 2.0 + 3.0))


def test_without_torch_distributed_rows_are_returned_unchanged() -> None:
    rows = inputs()
    assert all(a is b for a, b in zip(gather_over_processes(*rows), rows, strict=True))


def test_with_one_rank_rows_are_returned_unchanged(tmp_path: Path) -> None:
    distributed.init_process_group("gloo", init_method=(tmp_path / "meeting").as_uri(), rank=0, world_size=1)
    try:
        rows = inputs()
        assert all(a is b for a, b in zip(gather_over_processes(*rows), rows, strict=True))
    finally:
        distributed.destroy_process_group()


def test_tensors_with_different_row_counts_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"equally many rows, found \[5, 4\]"):
        gather_over_processes(torch.zeros(5, 2), torch.zeros(4, 2))

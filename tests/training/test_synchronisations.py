"""No recipe of pretraining makes the host wait for the device between the batch and the optimiser."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from tests.forked import run_ranks
from tests.training.miniature import recipes, write_miniature
from tests.training.synchronisations import Synchronisations, counts_of_steps
from x2kit.training.step.distinct_rows import distinct

WITHOUT_DATA = "pretrain/x2vlm-base-xlmr"
"""Its model is saved without a step."""
TRAINED = [name for name in recipes("pretrain") if name != WITHOUT_DATA]
MOST_STREAMS = "pretrain/cclm-base"
ONCE = {"_allgather_base_": 1, "alltoall_base_": 2}
"""A step's messages: features of all streams; negatives of all streams, and their gradients."""


def counts_of_ranks(folder: Path, count: int, names: Iterable[str], parts: Iterable[int]) -> dict:
    """Count in a step of each recipe on each rank. Returns: by recipe and number of parts, a list over ranks."""
    files = {}
    for accumulation in parts:
        of_parts = folder / str(accumulation)
        of_parts.mkdir()
        for name in names:
            files[name, accumulation] = write_miniature(name, of_parts, accumulation=accumulation, steps=10)
    done = run_ranks(
        count, *files.values(), folder / "counts.json", "1", module="tests.training.synchronisations"
    )
    assert done.returncode == 0, done.stderr
    of_ranks = json.loads((folder / "counts.json").read_text())
    return {key: [counts[str(file)] for counts in of_ranks] for key, file in files.items()}


def require_no_waits(counts: dict[str, dict[str, int]]) -> None:
    """All but DDP's own search for unused parameters."""
    waits = dict(counts["waits"])
    if counts["search"]["reads"]:
        waits = {line: number for line, number in waits.items() if number != counts["search"]["reads"]}
    assert waits == {}
    assert counts["uploads"] == {}


def test_the_counter_sees_what_waits_for_a_device() -> None:
    class Reads(torch.autograd.Function):
        @staticmethod
        def forward(ctx, rows):  # type: ignore[no-untyped-def]
            return rows.clone()

        @staticmethod
        def backward(ctx, gradient):  # type: ignore[no-untyped-def]
            return gradient * gradient.sum().item()

    rows = torch.arange(4.0, requires_grad=True)
    found: dict[str, int] = {}
    actions = {
        "item": lambda: rows.sum().item(),
        "tolist": lambda: rows.tolist(),
        "cpu": lambda: rows.cpu(),
        "numpy": lambda: rows.detach().numpy(),
        "bool": lambda: bool(rows.any()),
        "nonzero": lambda: rows.nonzero(),
        "mask": lambda: rows[rows > 1],
        "unique": lambda: rows.detach().unique(),
        "repeat": lambda: torch.arange(2).repeat_interleave(torch.tensor([1, 2])),
        "backward": lambda: Reads.apply(rows).sum().backward(),
    }
    for name, action in actions.items():
        with Synchronisations() as counts:
            action()
        found[name] = counts.waits.total()
    assert all(found.values()), found
    with Synchronisations() as counts:
        distinct(torch.tensor([3, 1, 3]), 5)
        rows.index_select(0, torch.arange(2)).sum().backward()
    assert counts.waits.total() == 0
    assert counts.uploads.total() == 1


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("name", TRAINED)
def test_one_rank_never_waits(tmp_path: Path, name: str, accumulation: int) -> None:
    require_no_waits(counts_of_steps(write_miniature(name, tmp_path, accumulation=accumulation, steps=10), 1))


def test_two_ranks_never_wait_and_send_one_message_a_direction(tmp_path: Path) -> None:
    (found,) = counts_of_ranks(tmp_path, 2, [MOST_STREAMS], [1]).values()
    for counts in found:
        require_no_waits(counts)
        assert {name: counts["collectives"][name] for name in ONCE} == ONCE


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_no_recipe_waits_on_any_rank(tmp_path: Path, count: int) -> None:
    for key, found in counts_of_ranks(tmp_path, count, TRAINED, [1, 2]).items():
        for counts in found:
            require_no_waits(counts)
            assert {name: counts["collectives"][name] for name in ONCE} == ONCE, key


def test_recipe_without_data_makes_no_step(tmp_path: Path) -> None:
    assert "data" not in write_miniature(WITHOUT_DATA, tmp_path).read_text()

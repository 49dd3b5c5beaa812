"""Rows reach the ranks that need them in tables of fixed size; those above the capacity are marked."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.forked import run_ranks
from tests.training.miniature import write_miniature
from x2kit.distributed.processes import Processes
from x2kit.training.step import rank_exchange
from x2kit.training.step.rank_exchange import Draws, Found, RankExchange, capacity


class Ranks(NamedTuple):
    """Draws of all ranks, and what each of them found of its own."""

    draws: Draws
    tables: list[Tensor]
    """Of each rank and what it received: rows of the owner and its number, [B + n, 2]."""
    found: list[Found]


def exchanged(num_rows: list[int], num_fused: list[int], seed: int) -> Ranks:
    """Route random draws and exchange the tables of all ranks in this process."""
    generator = torch.Generator().manual_seed(seed)
    count, total = len(num_rows), sum(num_fused)
    places = torch.tensor([(rank, row) for rank, rows in enumerate(num_rows) for row in range(rows)])
    drawn = places[torch.randint(len(places), (total,), generator=generator)]
    receiver = torch.tensor([rank for rank, rows in enumerate(num_fused) for _ in range(rows)])
    mixed = torch.randperm(total, generator=generator)
    draws = Draws(receiver[mixed], drawn[:, 0], drawn[:, 1], num_fused, num_rows)
    group = torch.Generator()
    exchanges = [
        RankExchange(Processes(rank, count), None, "exact", "global", group)  # type: ignore[arg-type]
        for rank in range(count)
    ]
    routes = [each.route([draws], rows) for each, rows in zip(exchanges, num_rows, strict=True)]
    own = [
        torch.tensor([(rank, row) for row in range(rows)]).view(-1, 2) for rank, rows in enumerate(num_rows)
    ]
    sent = [
        (table[route.sent] if len(table) else torch.full((len(route.sent), 2), -1)).view(count - 1, -1, 2)
        for table, route in zip(own, routes, strict=True)
    ]
    tables, found = [], []
    for rank, route in enumerate(routes):
        received = torch.cat([sent[other][rank - (rank > other)] for other in range(count) if other != rank])
        tables.append(torch.cat([own[rank], received[route.kept]]))
        needed = draws.receiver == rank
        found.append(route.find(draws.owner[needed], draws.row[needed]))
    return Ranks(draws, tables, found)


COUNTS = st.lists(st.integers(0, 6), min_size=2, max_size=6).filter(lambda counts: sum(counts) > 1)


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(0, 2**16), st.data())
def test_every_needed_row_arrives(num_rows: list[int], seed: int, data: st.DataObject) -> None:
    num_fused = [data.draw(st.integers(0, rows)) for rows in num_rows]
    if not sum(num_fused):
        return
    ranks = exchanged(num_rows, num_fused, seed)
    for rank, (table, found) in enumerate(zip(ranks.tables, ranks.found, strict=True)):
        needed = ranks.draws.receiver == rank
        assert found.arrives.all()
        wanted = torch.stack([ranks.draws.owner[needed], ranks.draws.row[needed]], 1)
        assert torch.equal(table[found.rows], wanted)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_rows_above_the_capacity_do_not_arrive_and_others_do(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(rank_exchange, "capacity", lambda num_fused, num_rows: size)
    ranks = exchanged([9, 7, 8], [9, 7, 8], seed=3)
    for rank, (table, found) in enumerate(zip(ranks.tables, ranks.found, strict=True)):
        needed = ranks.draws.receiver == rank
        wanted = torch.stack([ranks.draws.owner[needed], ranks.draws.row[needed]], 1)
        assert torch.equal(table[found.rows][found.arrives], wanted[found.arrives])
        assert found.arrives[wanted[:, 0] == rank].all()
        for other in {0, 1, 2} - {rank}:
            of_other = wanted[:, 0] == other
            arrived = wanted[of_other & found.arrives].unique(dim=0)
            assert len(arrived) == min(size, len(wanted[of_other].unique(dim=0)))


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_up_to_four_ranks_every_negative_fits(ranks: int) -> None:
    assert capacity([128] * ranks, [128] * ranks) == 128


def test_capacity_follows_the_mean_number_of_rows_between_two_ranks() -> None:
    found = [capacity([128] * ranks, [128] * ranks) for ranks in (8, 64, 512)]
    assert found == [72, 16, 12]
    assert capacity([3, 2], [20, 30]) == 3
    assert capacity([30, 20], [3, 2]) == 3


@pytest.mark.slow
def test_negatives_above_the_capacity_do_not_count_and_are_logged(tmp_path: Path) -> None:
    file = write_miniature("pretrain/x2vlm-base-4m", tmp_path, rows=12, steps=10)
    done = run_ranks(2, file, tmp_path / "found.json", module="tests.training.step.dropped_negatives")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert math.isfinite(found["loss"])
    assert 0 < found["images.negatives_dropped"] < 1
    assert 0 < found["regions.negatives_dropped"] < 1

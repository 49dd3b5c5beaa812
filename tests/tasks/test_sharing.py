"""Work split over ranks, simulated by threads: every rank gets the result of a single rank."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.evaluation.stubs import WIDTH, Listed, photo
from x2kit.errors import DataError, ShapeError
from x2kit.model import X2VLM
from x2kit.plugin import Ranks, TaskContext
from x2kit.tasks import Grounding, Retrieval, WeakGrounding, scoring
from x2kit.tasks.grounding.metric import measure_grounding
from x2kit.tasks.records import encode_records
from x2kit.tasks.retrieval.metric import measure_retrieval
from x2kit.tasks.scoring import encode_text_bank, fuse_pairs, jobs_of_rank

Make = Callable[..., TaskContext]


@dataclass
class Board:
    """Values of all threads, exchanged at a barrier."""

    values: list[Any]
    barrier: threading.Barrier


@dataclass(frozen=True)
class Thread(Ranks):
    """A rank that is a thread."""

    board: Board = field(default_factory=lambda: Board([], threading.Barrier(1)))

    def gather(self, value: Any) -> list[Any]:
        self.board.values[self.rank] = value
        self.board.barrier.wait(60)
        found = list(self.board.values)
        self.board.barrier.wait(60)
        return found

    def from_rank_zero(self, value: Any) -> Any:
        return self.gather(value)[0]

    def concatenate(self, rows: Tensor | None) -> Tensor:
        return torch.cat([part for part in self.gather(rows) if part is not None])


def together(count: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """Run `work` on `count` ranks and return their results."""
    board = Board([None] * count, threading.Barrier(count))
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, [Thread(rank, count, board) for rank in range(count)]))


@pytest.fixture(autouse=True)
def many_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "CONTEXT_TOKENS_AT_ONCE", 15)  # blocks of three images
    monkeypatch.setitem(scoring.TOKENS_AT_ONCE, "cpu", 20)


def parts(costs: list[int], count: int) -> list[list[int]]:
    return [list(jobs_of_rank(torch.tensor(costs), Ranks(rank, count))) for rank in range(count)]


def test_a_single_rank_has_all_jobs() -> None:
    assert parts([5, 1, 3], 1) == [[0, 1, 2]]


def test_ranks_get_consecutive_jobs_of_about_equal_cost() -> None:
    assert parts([1, 1, 1, 1, 1, 1], 3) == [[0, 1], [2, 3], [4, 5]]
    assert parts([6, 1, 1, 1, 1, 2], 2) == [[0], [1, 2, 3, 4, 5]]


def test_ranks_may_be_more_than_jobs() -> None:
    assert parts([1, 1], 5) == [[], [0], [], [1], []]


@pytest.mark.parametrize("count", [2, 3, 8])
def test_every_rank_measures_what_a_single_rank_measures(context: Make, count: int) -> None:
    def measure(ranks: Ranks) -> Any:
        given = context(ranks=ranks)
        retrieval, grounding = Retrieval(top_k=3), Grounding(iou=0.1)
        weak = WeakGrounding(iou=0.1).run(given)
        return measure_retrieval(retrieval, given), measure_grounding(grounding, given), weak

    expected = measure(Ranks())
    assert together(count, measure) == [expected] * count


@pytest.mark.parametrize("count", [2, 5])
def test_banks_and_logits_are_equal_to_the_last_bit(context: Make, model: X2VLM, count: int) -> None:
    texts = [" ".join(["dog", "moon", "tree"][: 1 + number % 3]) + f" {number}" for number in range(13)]
    pairs = torch.cartesian_prod(torch.arange(9), torch.arange(13))

    def work(ranks: Ranks) -> list[Tensor]:
        images, _ = encode_records(context(ranks=ranks), None)
        bank = encode_text_bank(model, texts, 40, 4, ranks=ranks)
        logits = fuse_pairs(model, images, bank, pairs, model.itm_logits, ranks=ranks)
        return [images.patches, images.projected, bank.tokens, bank.starts, bank.projected, logits]

    expected = work(Ranks())
    for found in together(count, work):
        assert all(map(torch.equal, found, expected))


def test_a_rank_reads_and_fuses_only_its_part(
    context: Make, model: X2VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[int]] = [[], []]
    fused = [0, 0]
    plain = X2VLM.fuse

    class Watched(Listed):
        def __init__(self, rank: int) -> None:
            super().__init__([photo(index) for index in range(12)])
            self.rank = rank

        def __getitem__(self, index: int) -> Any:
            read[self.rank].append(index)
            return super().__getitem__(index)

    def counted(self: X2VLM, text: Tensor, *rest: Any, **named: Any) -> Tensor:
        fused[mine.rank] += len(text)
        return plain(self, text, *rest, **named)

    mine = threading.local()
    monkeypatch.setattr(X2VLM, "fuse", counted)

    def work(ranks: Ranks) -> None:
        mine.rank = ranks.rank
        given = context(ranks=ranks, source=Watched(ranks.rank), languages=("en",))
        measure_grounding(Grounding(), given)

    together(2, work)
    assert read == [list(range(4)), list(range(4, 12))]  # three batches
    assert sum(fused) == 24  # two regions of each image
    assert min(fused) >= 8


def test_batches_do_not_depend_on_where_a_part_begins(model: X2VLM) -> None:
    images = [torch.rand(3, 16, 16) for _ in range(9)]
    sizes = [len(batch) for batch in scoring._batched(images, 4)]
    assert sizes == [4, 4, 1]
    mixed = [torch.rand(3, 16, 16), torch.rand(2, 3, 16, 16), *images[:4], torch.rand(2, 3, 16, 16)]
    shapes = [[tensor.ndim for tensor in batch] for batch in scoring._batched(mixed, 4)]
    assert shapes == [[3], [4], [3, 3], [3, 3], [4]]
    assert shapes[3:] == [[tensor.ndim for tensor in batch] for batch in scoring._batched(mixed[4:], 4)]


def test_a_bank_block_equals_the_text_encoded_alone(model: X2VLM) -> None:
    texts = ["the red dog under the tree", "dog", "moon and sun"]
    bank = encode_text_bank(model, texts, 40, 2)
    for row, text in enumerate(texts):
        alone = encode_text_bank(model, [text], 40, 1)
        tokens, mask = bank.block(torch.tensor([row]), torch.device("cpu"))
        assert tokens.shape == (1, len(alone.tokens), WIDTH)
        assert mask.all()
        torch.testing.assert_close(tokens[0], alone.tokens, rtol=0, atol=1e-6)


def test_a_split_without_records_is_refused_with_its_name(context: Make) -> None:
    with pytest.raises(DataError, match="the split test has no records"):
        encode_records(context(source=Listed([])), None)


def test_concatenating_no_rows_is_refused() -> None:
    with pytest.raises(ShapeError, match="no rank has rows"):
        Ranks().concatenate(None)

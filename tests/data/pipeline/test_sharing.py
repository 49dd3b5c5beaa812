"""Several ranks make the batch of a single process: equal rows, images and masks."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed import TCPStore

from tests.data.pipeline.test_loader import AUGMENTED, FAULTY, recipe
from tests.data.stub_tasks import Pairs
from tests.data.stubs import StubScenes, WordTokenizer, stream
from x2kit.data.config import DataConfig
from x2kit.data.pipeline.batch import Batch, PairedRows, ParallelRows, Rows, TextRows
from x2kit.data.pipeline.loader import StepBatches
from x2kit.data.pipeline.order import Share
from x2kit.data.pipeline.sharing import require_shares
from x2kit.distributed.worker_ranks import WorkerRanks
from x2kit.errors import RecipeError
from x2kit.plugin import ImageSpec

STEPS = 6


def everything(num_workers: int = 0) -> DataConfig:
    """Streams of all kinds, with broken records, rows above the limit, and rows that are not fused."""
    return recipe(
        num_workers,
        images=stream(
            "ImageText", source=FAULTY, transform=AUGMENTED, positives="text", batch_size=5, fusion_rows=3
        ),
        regions=stream("RegionText", source=FAULTY, images_from="images", batch_size=6, positives="text"),
        own=stream(
            "RegionText", source=FAULTY, max_images=4, transform=AUGMENTED, positives="image", batch_size=5
        ),
        pairs=stream("ParallelText", source=StubScenes(), pivot="en", positives="text", batch_size=7),
        corpus=stream("PlainText", source=StubScenes(count=7), batch_size=4),
    )


class ThreadGroup:
    """All-gather for threads that act as ranks."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count, timeout=60)
        self._values: list[Any] = [None] * count

    def gather(self, rank: int) -> Callable[[Any], list[Any]]:
        def gathered(value: Any) -> list[Any]:
            self._values[rank] = value
            self._barrier.wait()
            values = list(self._values)
            self._barrier.wait()
            return values

        return gathered


def batches_of(data: DataConfig, share: Share, gather: Callable[[Any], list[Any]] | None) -> list[Batch]:
    ranks = None if gather is None else lambda: gather
    batches = StepBatches(data, WordTokenizer(), ImageSpec(size=16), 0, STEPS, share, ranks)
    return list(batches.iterate())


def batches_of_ranks(count: int, data: DataConfig) -> list[list[Batch]]:
    """Return the batches of each rank."""
    group = ThreadGroup(count)
    found: list[list[Batch]] = [[] for _ in range(count)]

    def run(rank: int) -> None:
        found[rank] = batches_of(data, Share(rank, count), group.gather(rank))

    run_threads(count, run)
    return found


def run_threads(count: int, run: Callable[[int], None]) -> None:
    """Run the ranks."""
    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture(scope="module")
def alone() -> list[Batch]:
    return batches_of(everything(), Share(), None)


def rows_of(batch: Batch, rows: Rows) -> list[list[Any]]:
    """List texts, image and box of every row."""
    fields: list[Any] = []
    match rows:
        case PairedRows():
            assert batch.images is not None
            fields = [batch.images[rows.images], rows.texts]
            fields += [] if rows.regions is None else [rows.regions.bbox, rows.regions.whole]
        case ParallelRows():
            fields = [rows.first, rows.second]
        case TextRows():
            fields = [rows.texts]
    tensors = [
        tensor
        for field in fields
        for tensor in (field if isinstance(field, tuple) else (field,))
        if tensor is not None
    ]
    return [[torch.as_tensor(values)[row].tolist() for values in tensors] for row in range(len(tensors[0]))]


def masked_of(rows: Rows) -> list[list[Any]]:
    """List ids, positions and labels of every masked text, without padding."""
    masked = rows.masked_first if isinstance(rows, ParallelRows) else rows.masked
    assert masked is not None
    return [
        [ids.tolist(), *zip(at[label >= 0].tolist(), label[label >= 0].tolist(), strict=True)]
        for ids, at, label in zip(*masked, strict=True)
    ]


def placed(count: int, numbers: list[Tensor], values: list[list[Any]]) -> list[Any]:
    """Put the rows of all ranks at their numbers."""
    found: list[Any] = [None] * count
    for own, of_rank in zip(numbers, values, strict=True):
        for number, value in zip(own.tolist(), of_rank, strict=False):
            assert found[number] is None
            found[number] = value
    return found


@pytest.mark.parametrize("count", [2, 3, 4])
def test_all_ranks_together_have_the_rows_of_one_process(alone: list[Batch], count: int) -> None:
    found = batches_of_ranks(count, everything())
    for step, whole in enumerate(alone):
        parts = [batches[step] for batches in found]
        assert all(
            part.records == whole.records and list(part.streams) == list(whole.streams) for part in parts
        )
        assert whole.regions is not None
        assert all(part.regions == whole.regions for part in parts)
        assert {name: counts.held for name, counts in whole.regions.items()} == {
            name: len(whole.records.get(name, ())) for name in ("regions", "own")
        }
        for name in ("images", "regions", "own", "pairs"):
            if name not in whole.streams:
                continue
            rows, owned = whole.streams[name], [part.streams[name] for part in parts]
            numbers = [of_rank.whole.numbers for of_rank in owned]
            expected = rows_of(whole, rows)
            values = [rows_of(part, of_rank) for part, of_rank in zip(parts, owned, strict=True)]
            assert placed(len(expected), numbers, values) == expected
            hidden = masked_of(rows)
            assert placed(len(hidden), numbers, [masked_of(of_rank) for of_rank in owned]) == hidden
            same = rows.group[:, None] == rows.group
            for of_rank in owned:
                group = of_rank.whole.group
                assert torch.equal(group[:, None] == group, same)
                assert torch.equal(of_rank.group, group[of_rank.whole.numbers])


def test_whole_locates_every_row(alone: list[Batch]) -> None:
    found = batches_of_ranks(3, everything())
    for step in range(STEPS):
        for name in ("images", "regions", "own", "pairs"):
            owned = [batches[step].streams[name] for batches in found if name in batches[step].streams]
            if not owned:
                continue
            concatenated = torch.cat([rows.whole.numbers for rows in owned])
            for rows in owned:
                whole = rows.whole
                assert torch.equal(concatenated[whole.order], torch.arange(len(whole.order)))
                assert list(whole.num_rows) == [len(of_rank.whole.numbers) for of_rank in owned]
                fused = [int((of_rank.whole.numbers < whole.fused).sum()) for of_rank in owned]
                assert list(whole.num_fused) == fused
                images = [whole.image[whole.rank == rank].tolist() for rank in range(3)]
                assert list(whole.num_images) == [max(numbers, default=-1) + 1 for numbers in images]
                for number, (rank, row) in enumerate(zip(whole.rank, whole.row, strict=True)):
                    assert owned[rank].whole.numbers[row] == number
                    if isinstance(rows, PairedRows):
                        assert owned[rank].images[row] == whole.image[number]


def test_all_ranks_know_all_broken_records(alone: list[Batch]) -> None:
    found = batches_of_ranks(2, everything())
    for step, whole in enumerate(alone):
        for batches in found:
            assert sorted(batches[step].broken) == sorted(whole.broken)
            assert batches[step].drawn == whole.drawn
    assert any(batch.broken for batch in alone)


def tensors_of(value: Any) -> list[Any]:
    """List all values of a batch in order, tensors as lists."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, tuple | list):
        return [leaf for inner in value for leaf in tensors_of(inner)]
    return [value.tolist() if isinstance(value, Tensor) else value]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("count", "num_workers"), [(2, 1), (2, 3), (3, 2)])
def test_workers_of_ranks_make_whole_batches_equal_to_those_without_workers(
    count: int, num_workers: int
) -> None:
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    exchange = uuid.uuid4().hex
    found: list[list[Batch]] = [[] for _ in range(count)]

    def run(rank: int) -> None:
        ranks = WorkerRanks(rank, count, "localhost", store.port, exchange)
        found[rank] = batches_of(everything(num_workers), Share(rank, count), ranks.gather)

    run_threads(count, run)
    for worked, unworked in zip(found, batches_of_ranks(count, everything()), strict=True):
        assert [tensors_of(batch) for batch in worked] == [tensors_of(batch) for batch in unworked]


def test_each_rank_decodes_only_its_own_images() -> None:
    data = recipe(images=stream("ImageText", source=StubScenes(count=9), batch_size=6))
    assert [len(batches[0].images) for batches in batches_of_ranks(3, data)] == [2, 2, 2]


@pytest.mark.parametrize(
    ("records", "block", "expected"),
    [
        (6, 1, [[0, 2, 4], [1, 3, 5]]),
        (8, 2, [[0, 1, 4, 5], [2, 3, 6, 7]]),
        (8, 8, [[0, 1, 2, 3], [4, 5, 6, 7]]),
    ],
)
def test_blocks_stay_together_as_far_as_shares_allow(
    records: int, block: int, expected: list[list[int]]
) -> None:
    assert [Share(rank, 2).places(records, block) for rank in range(2)] == expected


def test_more_ranks_than_records_are_rejected() -> None:
    data = recipe(
        pairs=stream("ParallelText", source=StubScenes(), pivot="en", batch_size=3),
        images=stream("ImageText", source=StubScenes(), batch_size=4),
        regions=stream(
            "RegionText", source=StubScenes(), images_from="images", max_images=2
        ),  # draws no records itself
    )
    require_shares(data, 3)
    with pytest.raises(RecipeError, match=r"data\.streams\.pairs\.batch_size: 3 records .* 4 processes"):
        require_shares(data, 4)


def test_regions_behind_a_task_with_images_keep_their_order() -> None:
    data = recipe(
        task=stream(Pairs(), source=FAULTY, batch_size=5),
        own=stream("RegionText", source=FAULTY, max_images=4, batch_size=5),
    )
    for whole, *of_ranks in zip(batches_of(data, Share(), None), *batches_of_ranks(2, data), strict=True):
        assert [batch.records for batch in of_ranks] == [whole.records] * 2

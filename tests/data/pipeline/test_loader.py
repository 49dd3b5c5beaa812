"""The batch of a step is a pure function of the step, for any number of workers and any first step."""

from __future__ import annotations

import gc
import os
import tracemalloc
from typing import Any

import pytest
import torch

from tests.data.stub_tasks import Pairs
from tests.data.stubs import Scenes, StubScenes, WordTokenizer, stream
from x2kit.data.config import DataConfig
from x2kit.data.pipeline.batch import Batch, PairedRows, ParallelRows, TaskRows, TextRows
from x2kit.data.pipeline.loader import StepBatches
from x2kit.errors import DataError
from x2kit.plugin import ImageSpec

AUGMENTED = {"crop_scale": (0.3, 1.0), "flip": 0.5, "augment_operations": 2}
FAULTY = StubScenes(count=21, encoded=True, broken=(4,), outside=(6,))


def recipe(num_workers: int = 0, **streams: Any) -> DataConfig:
    return DataConfig(streams=streams, num_workers=num_workers)


def everything(num_workers: int = 0) -> DataConfig:
    """Streams of all kinds, with augmentation and broken records."""
    return recipe(
        num_workers,
        images=stream("ImageText", source=FAULTY, transform=AUGMENTED, positives="text", block=2),
        regions=stream("RegionText", source=FAULTY, images_from="images", batch_size=6, positives="text"),
        own=stream("RegionText", source=FAULTY, max_images=3, transform=AUGMENTED, positives="image"),
        pairs=stream("ParallelText", source=StubScenes(), pivot="en", positives="text"),
        corpus=stream("PlainText", source=StubScenes(count=7)),
        task=stream(Pairs(), source=FAULTY, transform=AUGMENTED),
    )


def batches(data: DataConfig, steps: int = 10, seed: int = 0) -> StepBatches:
    return StepBatches(data, WordTokenizer(), ImageSpec(size=16), seed, steps)


def flat(value: Any) -> list[Any]:
    """Flatten a batch, with tensors as lists, for comparison."""
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), value.tolist()]
    if isinstance(value, dict):
        return [(key, flat(item)) for key, item in value.items()]
    if isinstance(value, tuple | list):
        return [flat(item) for item in value]
    return [value]


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    return [flat(batch) for batch in map(batches(everything()).batch, range(10))]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
@pytest.mark.parametrize("num_workers", [0, 1, 3])
@pytest.mark.parametrize("first", [0, 5])
def test_batches_are_equal_for_any_number_of_workers_and_any_first_step(
    num_workers: int, first: int, expected: list[Any]
) -> None:
    found = list(batches(everything(num_workers)).iterate(first))
    assert [batch.step for batch in found] == list(range(first, 10))
    assert [flat(batch) for batch in found] == expected[first:]


def test_batches_do_not_depend_on_the_order_of_calls(expected: list[Any]) -> None:
    fresh = batches(everything())
    assert [flat(fresh.batch(step)) for step in (7, 2, 7)] == [expected[7], expected[2], expected[7]]


def test_another_seed_gives_other_batches(expected: list[Any]) -> None:
    other = batches(everything(), seed=1)
    assert all(flat(other.batch(step)) != expected[step] for step in range(10))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_torchs_global_generator_is_not_used(num_workers: int) -> None:
    before = torch.get_rng_state()
    list(batches(everything(num_workers), steps=2).iterate())
    assert torch.equal(torch.get_rng_state(), before)


def test_every_stream_has_its_rows() -> None:
    batch = batches(everything()).batch(0)
    assert list(batch.streams) == ["images", "regions", "own", "pairs", "corpus", "task"]
    images, regions, own, pairs, corpus, task = batch.streams.values()
    assert isinstance(images, PairedRows)
    assert isinstance(regions, PairedRows)
    assert isinstance(own, PairedRows)
    assert isinstance(pairs, ParallelRows)
    assert isinstance(task, TaskRows)
    assert isinstance(corpus, TextRows)
    assert images.images.tolist() == [0, 1, 2, 3]
    assert images.regions is None
    assert regions.regions is not None
    assert set(regions.images.tolist()) <= {0, 1, 2, 3}
    assert not regions.regions.whole.any()
    assert min(own.images.tolist()) == 4
    assert batch.images is not None
    assert task.images.flatten().tolist() == list(range(max(own.images.tolist()) + 1, len(batch.images)))
    assert batch.images.shape == (max(own.images.tolist()) + 9, 3, 16, 16)
    assert (batch.images.dtype, batch.images.is_contiguous()) == (torch.uint8, True)
    assert pairs.first.ids.shape[0] == corpus.texts.ids.shape[0] == 4


def test_boxes_match_the_shared_images() -> None:
    source = StubScenes(count=6, side=16)
    data = recipe(
        images=stream("ImageText", source=source, transform={"flip": 0.5}, batch_size=6),
        regions=stream("RegionText", source=source, images_from="images", batch_size=99),
    )
    batch = batches(data).batch(0)
    rows, records = batch.streams["regions"], Scenes(source)
    assert isinstance(rows, PairedRows)
    assert rows.regions is not None
    assert batch.images is not None
    flips = 0
    for place, bbox in zip(rows.images.tolist(), rows.regions.bbox.tolist(), strict=True):
        index = int(batch.records["images"][place].removeprefix("scene-"))
        plain = torch.tensor(list(records[index]["image"].tobytes())).view(16, 16, 3).permute(2, 0, 1)
        flipped = torch.equal(batch.images[place], plain.flip(2))
        assert flipped or torch.equal(batch.images[place], plain)
        lefts = [region["bbox"][0] / 16 for region in records[index]["regions"]]
        if flipped:
            lefts = [
                1 - left - region["bbox"][2] / 16
                for left, region in zip(lefts, records[index]["regions"], strict=True)
            ]
        assert any(bbox[0] - bbox[2] / 2 == pytest.approx(left) for left in lefts)
        flips += flipped
    assert 0 < flips < len(rows.images)


def test_shared_images_keep_their_shape_also_while_region_losses_are_off() -> None:
    source = StubScenes(count=4, side=16)
    late = {name: {"start": 0.9} for name in ("itc", "itm", "mlm", "bbox", "giou")}
    transform = {"augment_operations": 6}

    def all_images(**regions: Any) -> torch.Tensor:
        images = stream("ImageText", source=source, transform=transform)
        found = batches(recipe(images=images, **regions)).batch(0).images
        assert found is not None
        return found

    shared = stream("RegionText", source=source, images_from="images")
    off = stream("RegionText", source=source, images_from="images", losses=late)
    assert torch.equal(all_images(regions=shared), all_images(regions=off))
    assert not torch.equal(all_images(regions=shared), all_images())


def test_texts_are_masked_only_in_steps_with_a_masking_loss() -> None:
    data = recipe(
        images=stream("ImageText", losses={"mlm": {"start": 0.5}}),
        pairs=stream("ParallelText", losses={"tlm": 0}),
    )
    early, late = batches(data).batch(4), batches(data).batch(5)
    assert [early.streams[name][2] is None for name in ("images", "pairs")] == [True, True]
    assert [late.streams[name][2] is None for name in ("images", "pairs")] == [False, True]


def test_a_stream_and_its_images_are_absent_while_all_its_losses_are_off() -> None:
    late = {name: {"start": 0.5} for name in ("itc", "itm", "mlm")}
    data = recipe(images=stream("ImageText", losses=late), corpus=stream("PlainText"))
    early, later = batches(data).batch(4), batches(data).batch(5)
    assert (list(early.streams), early.images) == (["corpus"], None)
    assert list(later.streams) == ["images", "corpus"]


def test_regions_can_use_the_images_of_a_stream_whose_losses_are_off() -> None:
    data = recipe(
        images=stream("ImageText", weight=0),
        regions=stream("RegionText", images_from="images", batch_size=9),
    )
    batch = batches(data).batch(0)
    assert list(batch.streams) == ["regions"]
    assert batch.images is not None
    assert len(batch.images) == 4


def test_a_stream_whose_images_have_no_region_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Scenes.__getitem__
    monkeypatch.setattr(Scenes, "__getitem__", lambda self, index: {**plain(self, index), "regions": []})
    data = recipe(images=stream("ImageText"), regions=stream("RegionText", images_from="images"))
    batch = batches(data).batch(0)
    assert list(batch.streams) == ["images"]
    assert batch.broken == []


def test_broken_records_are_reported_and_have_no_rows(expected: list[Any]) -> None:
    found = [batch for batch in batches(everything()).iterate() if batch.broken]
    assert {(fault.stream, fault.record, fault.reason) for batch in found for fault in batch.broken} == {
        ("images", "#4", "other"),
        ("own", "#4", "other"),
        ("own", "scene-6", "box outside its image"),
        ("regions", "scene-6", "box outside its image"),
        ("task", "#4", "other"),
    }
    assert not any("scene-6" in batch.records["regions"] for batch in found)


def test_record_ids_are_not_repeated() -> None:
    batch = batches(everything()).batch(0)
    assert all(len(set(ids)) == len(ids) > 0 for ids in batch.records.values())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_source_of_broken_records_only_raises_without_a_worker_traceback(num_workers: int) -> None:
    data = recipe(num_workers, corpus=stream("PlainText", source=StubScenes(broken=tuple(range(12)))))
    with pytest.raises(DataError) as found:
        list(batches(data).iterate())
    assert str(found.value).startswith("stream corpus: 100 records in a row are broken")
    assert "Traceback" not in str(found.value)


def test_equal_sources_are_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Scenes] = []
    plain = StubScenes.open

    def counted(self: StubScenes) -> Scenes:
        opened.append(plain(self))
        return opened[-1]

    monkeypatch.setattr(StubScenes, "open", counted)
    data = recipe(images=stream("ImageText"), regions=stream("RegionText", images_from="images"))
    fresh = batches(data)
    assert opened == []
    fresh.batch(0)
    fresh.batch(1)
    assert len(opened) == 1


def test_a_worker_opens_its_own_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_open, plain_read = StubScenes.open, Scenes.__getitem__
    owners: dict[int, int] = {}

    def opened(self: StubScenes) -> Scenes:
        source = plain_open(self)
        owners[id(source)] = os.getpid()
        return source

    def read(self: Scenes, index: int) -> Any:
        if owners[id(self)] != os.getpid():  # an inherited file shares its position with the other process
            raise DataError("opened by another process")
        return plain_read(self, index)

    monkeypatch.setattr(StubScenes, "open", opened)
    monkeypatch.setattr(Scenes, "__getitem__", read)
    used = batches(recipe(1, corpus=stream("PlainText")))
    expected = flat(used.batch(9))
    assert [flat(batch) for batch in used.iterate(9)] == [expected]


def test_a_worker_does_not_garbage_collect_memory_shared_with_the_main_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = Scenes.__getitem__

    def read(self: Scenes, index: int) -> Any:
        watched = len(gc.get_objects())  # objects that a collection would visit, and so write to
        return {**plain(self, index), "id": f"{os.getpid()}/{watched}"}

    monkeypatch.setattr(Scenes, "__getitem__", read)
    (batch,) = batches(recipe(1, corpus=stream("PlainText")), steps=1).iterate()
    for name in batch.records["corpus"]:
        process, watched = map(int, name.split("/"))
        assert process != os.getpid()
        assert watched < len(gc.get_objects()) / 10


def test_every_stream_has_a_fingerprint() -> None:
    data = recipe(images=stream("ImageText"), corpus=stream("PlainText", source=StubScenes(count=3)))
    assert batches(data).fingerprints() == {"images": "12", "corpus": "3"}


def test_there_are_no_batches_after_the_last_step() -> None:
    assert list(batches(everything(), steps=3).iterate(3)) == []


def test_closing_the_iterator_ends_the_workers() -> None:
    running = batches(everything(2)).iterate()
    first: Batch = next(running)
    assert first.step == 0
    running.close()


def test_a_billion_records_need_no_memory_at_any_step() -> None:
    source = StubScenes(count=10**9, side=16)
    images = stream("ImageText", source=source, batch_size=8)
    regions = stream("RegionText", source=source, images_from="images", batch_size=16)
    many = batches(recipe(images=images, regions=regions), steps=10**9)
    tracemalloc.start()
    found = [many.batch(step) for step in (0, 10**9 // 8 - 1, 10**9 - 1)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * 2**20
    records = [record for batch in found for record in batch.records["images"]]
    assert len(set(records)) == len(records) == 24

"""Rows of tasks: drawn from records, shared between ranks, read unchanged for evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.pipeline.test_sharing import batches_of_ranks
from tests.data.stub_tasks import Pairs, PairsTask
from tests.data.stubs import StubScenes, WordTokenizer, stream
from x2kit.data.config import DataConfig
from x2kit.data.pipeline.batch import Batch, TaskRows
from x2kit.data.pipeline.loader import StepBatches
from x2kit.data.pipeline.task_rows import EvaluationReader, TrainingReader, draw_row
from x2kit.errors import DataError
from x2kit.plugin import ImageSpec, Reader, Record, TaskRow

SPEC = ImageSpec(size=16)
AUGMENTED = {"crop_scale": (0.3, 1.0), "flip": 0.5, "augment_operations": 2}


def data(**settings: Any) -> DataConfig:
    return DataConfig(streams={"task": stream(Pairs(), source=StubScenes(), **settings)})


def rows_of(batch: Batch) -> TaskRows:
    rows = batch.streams["task"]
    assert isinstance(rows, TaskRows)
    return rows


def test_each_row_has_its_images_texts_and_targets() -> None:
    batch = StepBatches(data(transform=AUGMENTED), WordTokenizer(), SPEC, 0, 4).batch(0)
    rows = rows_of(batch)
    assert batch.images is not None
    assert batch.images.shape == (8, 3, 16, 16)
    assert rows.images.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [len(texts.ids) for texts in rows.texts] == [4, 4]
    assert rows.targets["same"].tolist() == [number % 2 for number in rows.targets["same"].tolist()]
    assert rows.targets["weight"].shape == (4, 2)
    assert len(batch.records["task"]) == 4


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_together_have_the_rows_of_one_process_at_one_length(count: int) -> None:
    alone = StepBatches(data(batch_size=6, transform=AUGMENTED), WordTokenizer(), SPEC, 0, 3)
    found = batches_of_ranks(count, data(batch_size=6, transform=AUGMENTED))
    for step, batch in enumerate(map(alone.batch, range(3))):
        parts = [rows_of(of_rank[step]) for of_rank in found]
        whole = rows_of(batch)
        assert all(
            [texts.ids.shape[1] for texts in part.texts] == [texts.ids.shape[1] for texts in whole.texts]
            for part in parts
        )
        together = [row for part in parts for row in part.texts[0].ids.tolist()]
        assert sorted(together) == sorted(whole.texts[0].ids.tolist())
        seen = [part.images[:, 0] for part in parts]
        pixels = [of_rank[step].images[images] for of_rank, images in zip(found, seen, strict=True)]  # type: ignore[index]
        assert batch.images is not None
        assert torch.equal(
            torch.cat(pixels).sum((1, 2, 3)).sort().values,
            batch.images[whole.images[:, 0]].sum((1, 2, 3)).sort().values,
        )


def test_careful_flips_heed_the_question_and_the_answers() -> None:
    config = stream(
        Pairs(),
        transform={"crop_scale": None, "augment_operations": 0, "flip": 1.0, "careful_flip": True},
    )
    image = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(3).reshape(16, 16, 3))
    flipped = {
        name: bool(TrainingReader(record, config, SPEC, np.random.default_rng(0)).image(image)[0, 0, 0] == 15)
        for name, record in {
            "plain": Record(question="which dog", answers=["brown"]),
            "question": Record(question="is the dog left"),
            "answers": Record(question="where", answers=["on the right"]),
        }.items()
    }
    assert flipped == {"plain": True, "question": False, "answers": False}


def test_an_error_of_the_task_names_the_task() -> None:
    class Broken(PairsTask):
        def draw(self, record: Record, reader: Reader) -> TaskRow:
            raise KeyError("label")

    with pytest.raises(Exception, match=r"task Pairs.*KeyError"):
        draw_row(Broken(Pairs()), Record(), stream(Pairs()), SPEC, np.random.default_rng(0))


def test_a_reader_of_evaluation_changes_nothing_and_reads_an_image_once() -> None:
    reader = EvaluationReader(SPEC, None, 40)
    image = Image.new("RGB", (16, 16), (1, 2, 3))
    first, again = reader.image(image), reader.image(image)
    assert first is again
    assert first.reshape(-1, 3).tolist() == [[1, 2, 3]] * 256
    with pytest.raises(DataError, match=r"model\.heads\.frames"):
        reader.video([image])


def test_a_reader_of_evaluation_reads_its_language() -> None:
    reader = EvaluationReader(SPEC, None, 2)
    reader.language = "de"
    assert reader.text([{"en": "A dog!"}, {"de": "Ein Hund, groß"}]) == "ein hund"
    assert reader.text({"de": "Ein Hund!"}, raw=True) == "Ein Hund!"
    with pytest.raises(DataError, match="no text in the language de"):
        reader.text({"en": "dog"})
    several = EvaluationReader(SPEC, None, 2, only=False)
    with pytest.raises(DataError, match="'dog' has no language and several are measured"):
        several.text("dog")


def test_targets_have_rows_first() -> None:
    rows = rows_of(StepBatches(data(), WordTokenizer(), SPEC, 0, 4).batch(1))
    assert all(len(target) == 4 and isinstance(target, torch.Tensor) for target in rows.targets.values())

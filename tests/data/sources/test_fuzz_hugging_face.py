"""Folders of `datasets`, damaged in ten thousand ways, give records or an error of ours, and never end the process."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest

from tests.fuzzing import INPUTS, answered, damaged
from x2kit.data.sources.config import HuggingFaceDataset
from x2kit.errors import DataError, X2KitError

ROWS = {
    "image": [bytes(range(200))] * 5,
    "text": [["a dog", "puppy"], ["a cat"], ["x" * 300], ["ein Hund"], ["f"]],
    "objects": [[{"bbox": [1.0, 2.0, 3.0, 4.0], "category": "ear"}] * 3] * 5,
}


@pytest.mark.slow
def test_folders(tmp_path: Path) -> None:
    rng = random.Random(0)
    folder = tmp_path / "saved"
    datasets.Dataset.from_dict(ROWS).save_to_disk(str(folder))
    sound = {file: file.read_bytes() for file in folder.iterdir()}
    config = HuggingFaceDataset(
        folder=folder,
        caption_column="text",
        boxes_column="objects.bbox",
        names_column="objects.category",
    )
    records = broken = 0

    def inputs() -> Iterator[None]:
        for _ in range(INPUTS):
            (file,) = rng.choices([*sound], [1 if file.suffix == ".json" else 10 for file in sound])
            # not written over: sources of earlier rounds may still have the file mapped
            file.unlink()
            file.write_bytes(damaged(sound[file], rng))
            yield
            file.unlink()
            file.write_bytes(sound[file])

    def read(_: None) -> None:
        nonlocal records, broken
        source = config.open()
        for index in range(len(source)):
            try:
                source[index]
                records += 1
            except DataError:
                broken += 1
        list(source.texts())
        source.fingerprint()

    good, bad = answered(inputs(), read, X2KitError)
    assert good + bad == INPUTS
    assert min(good, bad, records, broken) > 10

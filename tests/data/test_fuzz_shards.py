"""Tar shards answer ten thousand damaged inputs with records or a DataError, and with nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.data.sources.test_tar_shards import pairs, shard
from tests.fuzzing import INPUTS, answered, damaged
from x2kit.data.sources.config import TarShards
from x2kit.errors import DataError


@pytest.mark.slow
def test_tar_shards(tmp_path: Path) -> None:
    rng = random.Random(5)
    members = [*pairs(2), ("0002.json", b'{"caption": {"en": "a"}}'), ("0002.cls", b"1")]
    whole = shard(tmp_path / "whole.tar", *members).read_bytes()[: 15 * 1024]
    file = tmp_path / "a.tar"
    broken = 0

    def read(content: bytes) -> None:
        nonlocal broken
        file.write_bytes(content)
        source = TarShards(files=(str(file),), class_names=("cat", "dog")).open()
        for index in range(len(source)):
            source.place(index)
            try:
                source[index]
            except DataError:
                broken += 1
        list(source.texts())

    good, bad = answered((damaged(whole, rng) for _ in range(INPUTS)), read)
    assert good + bad == INPUTS
    assert min(good, bad, broken) > 10

"""A killed process loses the batch in flight, and the next call completes the index."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from tests.forked import FORKS
from tests.search.conftest import OPTIONS, write_image
from tests.search.killing import BATCH, MOST, index_slowly
from tests.search.test_indexing import table
from x2kit.inference import Model
from x2kit.search import index_folders
from x2kit.search.manifest import has_index


def kill_and_resume(folder: Path, weights: Path, model: Model, kills: int) -> None:
    """Kill runs at random moments, complete the index, and compare it with that of an uninterrupted run."""
    photos, place, whole = folder / "photos", folder / "index", folder / "whole"
    files = [write_image(photos / f"{number}.png", number) for number in range((MOST + 2) * BATCH * kills)]
    index_folders([photos], whole, model, OPTIONS)
    rows, moments = 0, random.Random(0)
    for _ in range(kills):
        started = FORKS.Event()
        process = FORKS.Process(target=index_slowly, args=(photos, place, weights, started))
        process.start()
        assert started.wait(60)
        process.join(moments.uniform(0.0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -9
        before, rows = rows, len(table(place)) if has_index(str(place)) else 0
        assert rows > before
        assert rows % BATCH == 0
    assert 0 < rows < len(files)
    report = index_folders([photos], place, model, OPTIONS)
    assert (report.added, report.unchanged) == (len(files) - rows, rows)
    expected, found = table(whole), table(place)
    assert found.keys() == expected.keys() == {str(file) for file in files}
    for name, (vector, columns) in expected.items():
        np.testing.assert_allclose(found[name][0], vector, rtol=0, atol=1e-6)
        assert found[name][1] == columns


def test_three_kills_lose_no_file(tmp_path: Path, weights: Path, model: Model) -> None:
    kill_and_resume(tmp_path, weights, model, kills=3)


@pytest.mark.slow
def test_twenty_kills_lose_no_file(tmp_path: Path, weights: Path, model: Model) -> None:
    kill_and_resume(tmp_path, weights, model, kills=20)

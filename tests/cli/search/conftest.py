"""The fixtures of tests/search, and the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Done
from tests.model import tiny
from tests.search.conftest import index, model, other_weights, photos, place, weights
from x2kit.cli import main

__all__ = ["index", "model", "other_weights", "photos", "place", "weights"]


@pytest.fixture
def search(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs `x2kit search` with these arguments."""

    def run(*arguments: str | Path) -> Done:
        capsys.readouterr()
        try:
            status = main(["search", *map(str, arguments)])
        except SystemExit as left:
            status = int(left.code or 0)
        return Done(status, *capsys.readouterr())

    return run


@pytest.fixture
def built(search: Callable[..., Done], photos: Path, place: Path, weights: Path) -> Path:
    """An index of eight images that `x2kit search index` built."""
    done = search(
        "index", photos, "--index", place, "--model", weights, "--plugin", tiny.__file__, "--device", "cpu"
    )
    assert done.status == 0, done.err
    return place

"""An index of a named model: a repository of the Hub is stored with its commit, so that the name works later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.hub.hub_cache import COMMIT, fill
from tests.model import tiny
from tests.search.conftest import OPTIONS
from x2kit import open_index
from x2kit.errors import DataError
from x2kit.search import index_folders
from x2kit.search.binding import LoadOptions, lasting_name

LATER = COMMIT[::-1]
ALLOWED = replace(OPTIONS, load=LoadOptions("cpu", plugins=(tiny.__file__,)))


@pytest.fixture
def hub(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model in the cache of the Hub."""
    fill(tmp_path / "hub", "acme/photos", weights, monkeypatch)
    return tmp_path / "hub"


def test_a_repository_is_stored_with_its_commit(
    hub: Path, photos: Path, place: Path, other_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = index_folders([photos], place, "hf-hub:acme/photos", ALLOWED)
    assert report.added == 8
    fill(hub, "acme/photos", other_weights, monkeypatch, LATER)  # the main branch moves on
    with open_index(place, device="cpu", plugins=[tiny.__file__]) as opened:
        assert opened.model.name == f"hf-hub:acme/photos@{COMMIT}"
        assert len(opened.query("a red dog", k=3)) == 3
    with pytest.raises(
        DataError, match=rf"encoded by hf-hub:acme/photos@{COMMIT} .*, but this is hf-hub:acme/photos "
    ):
        open_index(place, "hf-hub:acme/photos", device="cpu", plugins=[tiny.__file__])


def test_other_names_last_as_they_are(tmp_path: Path) -> None:
    assert lasting_name("x2vlm-base-4m") == "x2vlm-base-4m"
    assert lasting_name(str(tmp_path)) == str(tmp_path)

"""Repositories of the Hub: the cache is used offline, code is not fetched, revisions are pinned."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.hub.hub_cache import COMMIT, fill
from x2kit.errors import WeightsError
from x2kit.hub.availability import availability
from x2kit.hub.names import HubModel
from x2kit.hub.repositories import (
    PATTERNS,
    cached_repository,
    fetch_repository,
    fetch_tokenizer,
    pinned_name,
)

SCENES = HubModel("acme/scenes")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with acme/scenes."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")
    fill(tmp_path / "hub", "acme/scenes", tmp_path / "model", monkeypatch)
    return tmp_path / "hub"


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_cached_revision_needs_no_network(hub: Path, revision: str | None) -> None:
    found = fetch_repository(HubModel("acme/scenes", revision))
    assert (found.revision, found.folder.name) == (COMMIT, COMMIT)
    assert cached_repository(HubModel("acme/scenes", revision)) == found


def test_the_commit_is_pinned(hub: Path) -> None:
    assert pinned_name(SCENES) == f"hf-hub:acme/scenes@{COMMIT}"
    assert pinned_name(HubModel("acme/other")) == "hf-hub:acme/other"


def test_what_is_not_cached_says_how_to_get_it(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError) as error:
        fetch_repository(HubModel("acme/other", "v1"))
    assert str(error.value).startswith(
        "hf-hub:acme/other@v1: not in the cache, and the Hub cannot be reached (HF_HUB_OFFLINE is set)\n"
        "  with a network: x2kit models fetch hf-hub:acme/other@v1; the cache of another machine can be copied"
    )
    assert cached_repository(HubModel("acme/other")) is None
    obstacle = availability(HubModel("acme/other")).obstacle
    assert obstacle == (
        "hf-hub:acme/other: not in the cache, and HF_HUB_OFFLINE forbids downloads; with a network: x2kit models fetch "
        "hf-hub:acme/other"
    )
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert availability(HubModel("acme/other")).download.startswith(
        "hf-hub:acme/other is not in the cache; its first"
    )
    assert availability(SCENES).here


def test_a_repository_without_weights_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    fill(tmp_path / "hub", "acme/empty", tmp_path / "empty", monkeypatch)
    with pytest.raises(WeightsError, match=r"acme/empty: no model\.safetensors in revision 0123"):
        fetch_repository(HubModel("acme/empty"))
    assert not availability(HubModel("acme/empty")).here


@pytest.mark.parametrize(
    ("name", "fetched"),
    [
        ("model.safetensors", True),
        ("recipe.yaml", True),
        ("plugins/tiny.py", True),
        ("plugins/pack/__init__.py", True),
        ("tokenizer/tokenizer.json", True),
        ("weights/model.safetensors", True),
        ("modeling.py", False),
        ("tokenizer/tokenization.py", False),
        ("vision/code.py", False),
        ("pytorch_model.bin", False),
        ("model.pkl", False),
        ("optimizer.pt", False),
        ("README.md", False),
    ],
)
def test_only_the_files_of_a_weights_directory_are_fetched(name: str, fetched: bool) -> None:
    assert any(fnmatch(name, pattern) for pattern in PATTERNS) is fetched


def test_every_file_that_is_saved_is_also_fetched(tmp_path: Path) -> None:
    from tests.model.conftest import RECIPE, build
    from x2kit.model import save_weights

    save_weights(build(), RECIPE, tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert "plugins/tiny.py" in names
    assert [name for name in names if not any(fnmatch(name, pattern) for pattern in PATTERNS)] == []


def test_a_tokenizer_is_a_directory_or_in_the_cache(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "tokenizer.json").write_text("{}")
    assert fetch_tokenizer(str(tmp_path / "words")) == str(tmp_path / "words")
    fill(tmp_path / "hub", "acme/words", tmp_path / "words", monkeypatch)
    assert fetch_tokenizer("acme/words") == "acme/words"
    with pytest.raises(WeightsError, match=r"^tokenizer acme/none: not in the cache"):
        fetch_tokenizer("acme/none")
    with pytest.raises(WeightsError, match=r"^tokenizer a/b/c: neither a directory nor a name"):
        fetch_tokenizer("a/b/c")

"""A cache and a catalogue of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.hub.web import Site, serving
from x2kit.hub import fetching
from x2kit.hub.catalogue import PublishedModel, catalogue

Catalogue = Callable[..., PublishedModel]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("X2KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(fetching, "_sleep", lambda seconds: None)
    return tmp_path / "cache"


@pytest.fixture
def site() -> Iterator[Site]:
    """A server without files."""
    with serving(Site({})) as site:
        yield site


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    """Add an entry to the user's catalogue, and return it."""
    file, models = tmp_path / "mine.yaml", {}
    monkeypatch.setenv("X2KIT_CATALOGUE", str(file))

    def add(name: str, **entry: Any) -> PublishedModel:
        models[name] = {"title": "a test's", "file": "model.th", **entry}
        file.write_text(yaml.safe_dump({"models": models}))
        return catalogue()[name]

    return add

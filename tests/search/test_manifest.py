"""The store of a new index: the one that is named, or the only one that declares itself the default."""

from __future__ import annotations

import pytest

from x2kit.errors import X2KitError
from x2kit.plugin.loading.manager import load_plugins
from x2kit.search.manifest import store_config


def test_a_named_store_is_built() -> None:
    assert store_config("Exact", {}).component_name() == "Exact"


def test_without_a_name_the_default_component_is_built() -> None:
    chosen = store_config(None, {})
    assert chosen.default
    assert [e.component for e in load_plugins().registry if getattr(e.component, "default", False)] == [
        type(chosen)
    ]


def test_two_defaults_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = type(store_config("Exact", {}))
    monkeypatch.setattr(exact, "default", True)
    with pytest.raises(
        X2KitError, match=r"2 components are the default store \(Exact, LanceDB\); choose one: --store"
    ):
        store_config(None, {})


def test_no_default_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(store_config(None, {})), "default", False)
    with pytest.raises(X2KitError, match="0 components are the default store"):
        store_config(None, {})

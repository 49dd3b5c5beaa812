from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ConfigDict

from x2kit.errors import PluginError
from x2kit.plugin import ImageSpec, Registry, TaskConfig, VisionEncoderConfig, VisionFacts


class Beit(VisionEncoderConfig):
    width: int = 8

    def describe(self) -> VisionFacts:
        return VisionFacts(ImageSpec(8), self.width, (2, 2))

    def build(self, assets: Path | None = None) -> Any:
        raise NotImplementedError


class Swin(Beit):
    pass


class Retrieval(TaskConfig):
    def run(self, context: Any) -> dict[str, Any]:
        return {}


def named_like_beit() -> type[VisionEncoderConfig]:
    return type("Beit", (Beit,), {"__module__": __name__})


@pytest.fixture
def registry() -> Registry:
    registry = Registry("acme", "acme-vit 0.2")
    for component in (Swin, Retrieval, Beit):
        registry.add(component)
    return registry


def test_a_component_is_found_by_kind_and_name(registry: Registry) -> None:
    assert registry.get("vision", "Beit") is Beit
    assert registry.get("task", "Retrieval") is Retrieval


def test_entries_come_by_kind_and_name_with_their_owner(registry: Registry) -> None:
    assert [entry.component for entry in registry] == [Retrieval, Beit, Swin]
    assert {(entry.plugin, entry.distribution) for entry in registry} == {("acme", "acme-vit 0.2")}


def test_an_unknown_name_lists_near_known_and_quarantined(registry: Registry) -> None:
    registry.quarantine("foo", "No module named 'foo'", "foo-vit 0.1")
    registry.quarantine("bar", "boom")
    with pytest.raises(PluginError) as caught:
        registry.get("vision", "Beat")
    assert str(caught.value) == (
        'no vision component is called "Beat"; nearest: "Beit" (plugin acme)\n'
        "  known: Beit, Swin\n"
        "  quarantined: plugin bar: boom\n"
        "  quarantined: plugin foo (foo-vit 0.1): No module named 'foo'\n"
        "  see: x2kit plugins list --kind vision"
    )


def test_a_name_of_another_kind_is_unknown(registry: Registry) -> None:
    with pytest.raises(PluginError, match=r'no text component is called "Beit"\n  known: none\n  see: '):
        registry.get("text", "Beit")


def test_absorbing_takes_all_or_nothing(registry: Registry) -> None:
    other = Registry("second", "second 1")
    other.add(named_like_beit())
    other.add(type("Fresh", (Beit,), {"__module__": __name__}))
    with pytest.raises(PluginError) as caught:
        registry.absorb(other)
    assert str(caught.value) == (
        'vision component "Beit" of plugin second (second 1) is already registered by plugin acme '
        "(acme-vit 0.2); rename one or uninstall one distribution"
    )
    assert [entry.component.__name__ for entry in registry] == ["Retrieval", "Beit", "Swin"]


def test_one_name_twice_in_one_plugin_is_refused(registry: Registry) -> None:
    with pytest.raises(PluginError, match=r'"Beit" is a duplicate in plugin acme \(acme-vit 0\.2\); remove'):
        registry.add(named_like_beit())


@pytest.mark.parametrize("thing", [int, Beit(), "Beit", None])
def test_what_is_no_component_is_refused(thing: Any) -> None:
    with pytest.raises(PluginError, match="is not a component: subclass one of VisionEncoderConfig, Text"):
        Registry().add(thing)


def test_methods_that_are_not_written_are_named() -> None:
    class Half(VisionEncoderConfig):
        pass

    with pytest.raises(
        PluginError, match=r'"Half": build, describe not implemented; see x2kit\.plugin\.VisionEncoderC'
    ):
        Registry().add(Half)


@pytest.mark.parametrize(
    ("change", "found"), [({"frozen": False}, "frozen=False"), ({"extra": "ignore"}, "extra=")]
)
def test_settings_that_could_change_or_be_misspelt_are_refused(change: Any, found: str) -> None:
    class Loose(Beit):
        model_config = ConfigDict(**change)

    with pytest.raises(PluginError, match=f'"Loose": model_config has {found}.* and must keep'):
        Registry().add(Loose)


def test_a_method_that_does_not_take_what_it_is_given_is_refused() -> None:
    class Narrow(Beit):
        def build(self) -> Any:  # type: ignore[override]
            raise NotImplementedError

    class Greedy(Beit):
        def build(self, assets: Path | None = None, *, shape: int) -> Any:  # type: ignore[override]
            raise NotImplementedError

    class Generous(Beit):
        def build(self, *arguments: Any, **settings: Any) -> Any:
            raise NotImplementedError

    contract = r"build does not take the arguments of its contract, build\(self, assets=None\): "
    with pytest.raises(PluginError, match=f'"Narrow": {contract}.*assets'):
        Registry().add(Narrow)
    with pytest.raises(PluginError, match=f'"Greedy": {contract}.*shape'):
        Registry().add(Greedy)
    Registry().add(Generous)

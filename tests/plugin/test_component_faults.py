"""An error in a component's code names the component, its plugin, and the line; other errors pass as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from x2kit.errors import DataError, PluginError
from x2kit.plugin.component_faults import PARTNER_GONE, component_faults
from x2kit.plugin.components import ComponentConfig
from x2kit.plugin.loading.manager import load_plugins

PLUGIN = """\
import json
from x2kit.plugin import ImageSpec, VisionEncoderConfig, VisionFacts, hookimpl

class SarVision(VisionEncoderConfig):
    settings: str = ""

    def describe(self):
        return VisionFacts(ImageSpec(8, 3, (0.5,) * 3, (0.5,) * 3), 4, (2, 2))

    def build(self, assets=None):
        if self.settings:
            return json.loads(self.settings)
        return int(nowhere)  # line 13

@hookimpl
def x2kit_register(registry):
    registry.add(SarVision)
"""


@pytest.fixture
def component(tmp_path: Path) -> ComponentConfig:
    (tmp_path / "sar.py").write_text(PLUGIN)
    return load_plugins([str(tmp_path / "sar.py")]).registry.get("vision", "SarVision")()


def test_an_error_names_component_plugin_and_line(component: ComponentConfig, tmp_path: Path) -> None:
    with pytest.raises(PluginError) as found, component_faults(component):
        component.build()  # type: ignore[attr-defined]
    file = tmp_path / "sar.py"
    assert str(found.value).splitlines() == [
        f"vision encoder SarVision of plugin sar ({file}) raised NameError: name 'nowhere' is not defined at {file}:13",
        f"  try: x2kit plugins check {file} --component SarVision",
    ]
    assert isinstance(found.value.__cause__, NameError)


def test_the_line_is_that_of_the_plugin_where_a_library_raised(component: ComponentConfig) -> None:
    component = type(component).model_validate({"settings": "{"})
    with (
        pytest.raises(PluginError, match=r" raised json\.decoder\.JSONDecodeError: .* at .*sar\.py:12\n"),
        component_faults(component),
    ):
        component.build()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "other",
    [
        DataError("ours"),
        MemoryError(),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
        RuntimeError(f"[gloo] {PARTNER_GONE[0]}"),
        KeyboardInterrupt(),
    ],
)
def test_an_error_with_another_cause_passes(component: ComponentConfig, other: BaseException) -> None:
    with pytest.raises(type(other)) as found, component_faults(component):
        raise other
    assert found.value is other


def test_without_a_component_every_error_passes() -> None:
    with pytest.raises(ZeroDivisionError), component_faults(None):
        raise ZeroDivisionError

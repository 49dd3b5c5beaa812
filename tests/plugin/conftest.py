"""Plugins that exist for one test: installed distributions and files, written into a temporary folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

VISION = '''
from x2kit.plugin import ImageSpec, VisionEncoderConfig, VisionFacts, hookimpl

class {name}(VisionEncoderConfig):
    """An encoder that is never built."""

    width: int = 8

    def describe(self):
        return VisionFacts(ImageSpec(8), self.width, (2, 2))

    def build(self, assets=None):
        raise NotImplementedError

@hookimpl
def x2kit_register(registry):
    registry.add({name})
'''

BROKEN = {
    "import error": "import acme_that_is_not_installed\n",
    "misspelt hook": VISION.format(name="Misspelt").replace("def x2kit_register", "def x2kit_regster"),
    "duplicate name": VISION.format(name="BeitV2"),
    "api range": 'x2kit_api = ">=2"\n' + VISION.format(name="TooNew"),
    "hook raises": VISION.format(name="Raising").replace(
        "registry.add(Raising)", "raise RuntimeError('boom')"
    ),
    "no hook": "x = 1\n",
}
"""One module for each reason to be quarantined."""

Install = Callable[..., Path]


def write_distribution(folder: Path, name: str, plugins: Mapping[str, str], version: str = "1.0") -> None:
    """Write what an installation leaves behind.

    Args:
        folder: stands for site-packages.
        plugins: the text of each module; an entry point of the module's name leads to it.
    """
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    entries = "".join(f"{module} = {module}\n" for module in plugins)
    (metadata / "entry_points.txt").write_text(f"[x2kit]\n{entries}")
    for module, text in plugins.items():
        (folder / f"{module}.py").write_text(text)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install(name, {module: text}, version, folder)` installs a distribution until the test ends."""

    def write(name: str, plugins: Mapping[str, str], version: str = "1.0", folder: str = "site") -> Path:
        place = tmp_path / folder
        write_distribution(place, name, plugins, version)
        monkeypatch.syspath_prepend(str(place))
        return place

    before = set(sys.modules)
    yield write
    for module in set(sys.modules) - before:
        if (getattr(sys.modules[module], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[module]

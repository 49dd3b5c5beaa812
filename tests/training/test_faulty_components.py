"""A run that a component's code ends says which component, and keeps the traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from x2kit.errors import DataError, PluginError
from x2kit.recipe import read_recipe
from x2kit.training import train

from .conftest import recipe_tree

PLUGIN = """\
import os, signal
from tests.data.stubs import Scenes, StubScenes
from tests.model.tiny import TinyVision, TinyVisionEncoder
from x2kit.plugin import hookimpl

class Eye(TinyVision):
    fails: bool = True
    def build(self, assets=None):
        return EyeEncoder(self) if self.fails else TinyVisionEncoder(self)

class EyeEncoder(TinyVisionEncoder):
    def forward(self, images):
        return images * scale  # line 13

class Records(StubScenes):
    split: str = "train"
    killed: bool = False
    def open(self):
        return OpenRecords(self)

class OpenRecords(Scenes):
    def __getitem__(self, index):
        if self.config.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        return rows[index]  # line 25

@hookimpl
def x2kit_register(registry):
    for component in (Eye, Records):
        registry.add(component)
"""


def run(folder: Path, vision: object, source: object, workers: int) -> None:
    """Train the tiny recipe with these components."""
    tree = recipe_tree(folder)
    (folder / "faulty.py").write_text(PLUGIN)
    tree["plugins"].append("faulty.py")
    tree["model"]["vision"] = vision
    tree["data"]["num_workers"] = workers
    for stream in tree["data"]["streams"].values():
        stream["source"] = source
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tree))
    resolved = read_recipe([folder / "tiny.yaml"])
    train(resolved.recipe, resolved.plugins, folder / "run")


def test_an_error_in_forward_names_the_encoder(tmp_path: Path) -> None:
    with pytest.raises(PluginError) as found:
        run(tmp_path, "Eye", "Scenes", 0)
    file, kept = tmp_path / "faulty.py", tmp_path / "run" / "traceback.txt"
    assert str(found.value).splitlines() == [
        f"vision encoder Eye of plugin faulty ({file}) raised NameError: name 'scale' is not defined at {file}:13",
        f"  try: x2kit plugins check {file} --component Eye",
        f"  traceback: {kept}",
    ]
    assert kept.read_text().endswith("NameError: name 'scale' is not defined\n")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_source_names_the_source(tmp_path: Path, workers: int) -> None:
    with pytest.raises(PluginError) as found:
        run(tmp_path, "TinyVision", "Records", workers)
    assert f"data source Records of plugin faulty ({tmp_path / 'faulty.py'}) raised NameError" in str(
        found.value
    )
    assert f"{tmp_path / 'faulty.py'}:25" in str(found.value)
    assert "NameError: name 'rows' is not defined" in (tmp_path / "run" / "traceback.txt").read_text()


def test_a_worker_that_is_killed_is_a_data_error(tmp_path: Path) -> None:
    source = {"class_path": "Records", "init_args": {"killed": True}}
    with pytest.raises(DataError, match="a data worker ended without a message"):
        run(tmp_path, "TinyVision", source, 1)

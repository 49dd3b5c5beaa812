"""Directories carry copies of the file plugins that their recipe names."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml

import x2kit
from tests.model import tiny
from x2kit.errors import PluginError
from x2kit.io.run_directory import RECIPE
from x2kit.model import X2VLM, build_model, load, save_weights
from x2kit.model.config import ModelConfig
from x2kit.model.initialisation import build_started
from x2kit.model.saved_recipe import write_recipe
from x2kit.model.saving import recipe_of
from x2kit.plugin.choice import context_of
from x2kit.plugin.loading.manager import load_plugins


def marking(marker: Path) -> str:
    """The tiny encoders, which leave a mark when they are imported."""
    return f"{Path(tiny.__file__).read_text()}\nopen({str(marker)!r}, 'w').close()\n"


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "imported"


@pytest.fixture
def weights(tmp_path: Path, marker: Path) -> Path:
    """A weights directory whose file plugin does not run in this process."""
    plugin = tmp_path / "tiny.py"
    plugin.write_text(Path(tiny.__file__).read_text() + f"\n# {tmp_path}\n")
    registry = load_plugins([str(plugin)]).registry
    chosen = {"vision": "TinyVision", "text": "TinyText", "fusion": "TinyFusion"}
    config = ModelConfig.model_validate(chosen, context=context_of(registry))
    plugin.write_text(marking(marker))
    save_weights(build_model(config), recipe_of(config, "tiny", [str(plugin)]), tmp_path / "weights")
    plugin.unlink()
    return tmp_path / "weights"


def test_a_recipe_names_the_copies_and_the_manifest_their_hashes(tmp_path: Path) -> None:
    file = tmp_path / "enc.py"
    file.write_text("x = 1\n")
    returned = write_recipe(f"plugins: [{file}, yaml]\nmodel: tiny\n", tmp_path / "run")
    stored = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert stored == {"plugins": ["plugins/enc.py", "yaml"], "model": "tiny"}
    copy = tmp_path / "run" / "plugins" / "enc.py"
    assert copy.read_text() == "x = 1\n"
    assert yaml.safe_load(returned)["plugins"] == [str(copy), "yaml"]
    manifest = json.loads((tmp_path / "run" / "plugins.json").read_text())
    assert manifest["files"] == {"plugins/enc.py": {"sha256": hashlib.sha256(b"x = 1\n").hexdigest()}}
    assert list(manifest["modules"]["yaml"]) == ["PyYAML"]
    assert f"x2kit {x2kit.__version__}" in manifest["installed"]


def test_a_directory_may_be_written_from_its_own_copies(tmp_path: Path) -> None:
    (tmp_path / "enc.py").write_text("x = 1\n")
    run = tmp_path / "run"
    again = write_recipe(f"plugins: [{tmp_path}/enc.py]\n", run)
    assert write_recipe(again, run) == again
    assert (run / "plugins" / "enc.py").read_text() == "x = 1\n"
    assert (run / RECIPE).read_text() == "plugins: [plugins/enc.py]\n"


@pytest.mark.parametrize("plugins", ["[FILE, yaml]", "\n- FILE\n- yaml", "\n  - FILE\n  - yaml"])
def test_only_the_list_of_plugins_is_rewritten(tmp_path: Path, plugins: str) -> None:
    file = tmp_path / "enc.py"
    file.write_text("x = 1\n")
    text = f'description: ""  # mine\nplugins: {plugins}\nmodel: {{a: 1e-3}}\n'
    write_recipe(text.replace("FILE", str(file)), tmp_path / "run")
    written = (tmp_path / "run" / RECIPE).read_text()
    assert written == 'description: ""  # mine\nplugins: [plugins/enc.py, yaml]\nmodel: {a: 1e-3}\n'


def test_weights_are_not_opened_without_consent_to_their_plugin(weights: Path, marker: Path) -> None:
    with pytest.raises(PluginError, match=r"plugins=\['.*/weights/plugins/tiny\.py'\]"):
        load(weights)
    assert not marker.exists()


def test_weights_that_moved_are_opened_with_the_copy_that_they_carry(weights: Path, marker: Path) -> None:
    moved = weights.rename(weights.with_name("moved"))
    model = load(moved, plugins=[moved / "plugins" / "tiny.py"])
    assert marker.exists()
    assert model.vision.width == 8


def test_weights_are_opened_with_a_file_of_the_same_name_elsewhere(weights: Path, marker: Path) -> None:
    elsewhere = weights.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "tiny.py").write_text(Path(tiny.__file__).read_text())
    assert load(weights, plugins=[elsewhere / "tiny.py"]).vision.width == 8
    assert not marker.exists()


def test_weights_whose_plugins_are_trusted_are_opened(weights: Path, marker: Path) -> None:
    assert X2VLM.from_pretrained(weights, trust_plugins=True).vision.width == 8
    assert marker.exists()


def test_a_model_starts_from_weights_whose_plugin_was_edited_since(weights: Path, marker: Path) -> None:
    """The file that the new recipe names takes the place of the copy."""
    edited = weights.parent / "mine" / "tiny.py"
    edited.parent.mkdir()
    edited.write_text(Path(tiny.__file__).read_text() + f"\n# edited {weights}\n")
    registry = load_plugins([str(edited)]).registry
    chosen = {"vision": "TinyVision", "text": "TinyText", "fusion": "TinyFusion", "init_from": str(weights)}
    _, found = build_started(ModelConfig.model_validate(chosen, context=context_of(registry)))
    assert found is not None
    assert found.origins["vision.patches.weight"][0] == "kept"
    assert not marker.exists()

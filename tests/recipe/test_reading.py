from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from x2kit.errors import RecipeError
from x2kit.recipe import Recipe, read_recipe

Write = Callable[[str, str], Path]


def test_a_recipe_is_typed_and_complete(write: Write) -> None:
    recipe = read_recipe(["good.yaml"]).recipe
    assert isinstance(recipe, Recipe)
    assert recipe.training.lr == 1e-4
    assert list(recipe.data.streams) == ["images", "regions", "parallel"]
    assert recipe.data.streams["regions"].loss("bbox").weight == 2
    text: Any = recipe.model.text
    assert (text.component_name(), text.depth, text.width) == ("Reader", 3, 16)


def test_a_dumped_recipe_reads_back_equal(write: Write) -> None:
    first = read_recipe(["good.yaml"], [("model.text.pretrained", "'1e-4'"), ("description", "no: yes #1")])
    write("saved/recipe.yaml", first.to_yaml())
    again = read_recipe(["saved/recipe.yaml"])
    assert again.recipe == first.recipe
    assert again.to_yaml() == first.to_yaml() == first.recipe.to_yaml()
    write("saved/commented.yaml", first.to_yaml(origins=True))
    assert read_recipe(["saved/commented.yaml"]).recipe == first.recipe


def test_a_dumped_recipe_means_the_same_to_other_yaml_readers(write: Write) -> None:
    keys = [
        ("training.optimizer.eps", 1e-12),
        ("evaluation.languages", "[en, 'de']"),
        ("description", "1e-4"),
    ]
    resolved = read_recipe(["good.yaml"], keys)
    assert yaml.safe_load(resolved.to_yaml()) == resolved.recipe.model_dump(mode="json")


def test_every_value_says_where_it_was_written(write: Write) -> None:
    write("over.yaml", "training:\n  lr: 2e-4\n")
    resolved = read_recipe(["good.yaml", "over.yaml"], [("training.seed", "7")])
    origins = {name: resolved.origin(f"training.{name}") for name in ("steps", "lr", "seed", "warmup")}
    assert origins == {
        "steps": "good.yaml:27",
        "lr": "over.yaml:2",
        "seed": "command line",
        "warmup": "default",
    }
    lines = resolved.to_yaml(origins=True).splitlines()
    assert "  lr: 0.0002  # over.yaml:2" in lines
    assert "      depth: 3  # good.yaml:8" in lines
    assert "      width: 16  # default" in lines


def test_a_switched_component_drops_the_old_settings(write: Write) -> None:
    text: Any = read_recipe(["good.yaml"], [("model.text", "OtherReader")]).recipe.model.text
    assert (text.component_name(), text.depth, text.pretrained) == ("OtherReader", 2, None)
    write("swap.yaml", "model: {text: OtherReader}\n")
    assert read_recipe(["good.yaml", "swap.yaml"]).recipe.model.text == text


def test_the_command_line_wins_over_every_file(write: Write) -> None:
    write("over.yaml", "training: {steps: 20}\n")
    assert read_recipe(["good.yaml", "over.yaml"], [("training.steps", "30")]).recipe.training.steps == 30


def test_the_description_stays_that_of_the_recipe(write: Write) -> None:
    write("over.yaml", "description: an overlay\ntraining: {steps: 20}\n")
    assert read_recipe(["good.yaml", "over.yaml"]).recipe.description == "a recipe for tests"
    write("child.yaml", "base: good.yaml\ndescription: a child\n")
    assert read_recipe(["child.yaml"]).recipe.description == "a child"


def test_plugins_of_the_command_line_are_kept_in_the_recipe(write: Write, good: str, tmp_path: Path) -> None:
    write("bare.yaml", good.replace("plugins: [stubs.py]\n", ""))
    recipe = read_recipe(["bare.yaml"], extra_plugins=["stubs.py", "./stubs.py"]).recipe
    assert recipe.plugins == (str(tmp_path / "stubs.py"),)


def test_a_plugin_named_by_recipe_and_command_line_counts_once(write: Write, tmp_path: Path) -> None:
    resolved = read_recipe(["good.yaml"], extra_plugins=[str(tmp_path / "stubs.py")])
    assert resolved.recipe.plugins == (str(tmp_path / "stubs.py"),)


def test_plugins_must_be_a_list_of_strings(write: Write, good: str) -> None:
    write("wrong.yaml", good.replace("plugins: [stubs.py]", "plugins: stubs.py"))
    with pytest.raises(RecipeError, match=r"wrong\.yaml:2: plugins: should be a "):
        read_recipe(["wrong.yaml"])
    write("wrong.yaml", good.replace("plugins: [stubs.py]", "plugins: [stubs.py, 3]"))
    with pytest.raises(RecipeError, match=r"wrong\.yaml:2: plugins\.1: should be a string, found 3"):
        read_recipe(["wrong.yaml"])


def test_the_label_names_the_run(write: Write) -> None:
    assert read_recipe(["good.yaml"]).label == "good"


def test_a_recipe_is_required() -> None:
    with pytest.raises(RecipeError, match="no recipe given\n  see: x2kit recipes list"):
        read_recipe([])

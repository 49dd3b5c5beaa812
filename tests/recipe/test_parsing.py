from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from x2kit.errors import RecipeError
from x2kit.plugin.choice import context_of
from x2kit.plugin.components import VisionEncoderConfig
from x2kit.plugin.loading.manager import load_plugins
from x2kit.recipe import Recipe, read_recipe
from x2kit.recipe.reading import ResolvedRecipe

Write = Callable[[str, str], Path]


def read(*overrides: tuple[str, Any]) -> ResolvedRecipe:
    return read_recipe(["good.yaml"], overrides, checks="none")


def test_jsonargparse_builds_the_recipe(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def instantiate(parser: ArgumentParser, parsed: Any, **settings: Any) -> Any:
        raise InterruptedError("jsonargparse")

    monkeypatch.setattr(ArgumentParser, "instantiate", instantiate)
    with pytest.raises(InterruptedError, match="jsonargparse"):
        read()


def test_pydantic_alone_would_build_an_equal_recipe(write: Write) -> None:
    resolved = read()
    context = context_of(resolved.plugins.registry)
    again = Recipe.model_validate(resolved.recipe.model_dump(mode="json"), context=context)
    assert again == resolved.recipe
    # jsonargparse builds sections within sections even if none of their keys is given
    assert resolved.recipe.training.model_fields_set - {"trainable"} == {"steps", "lr"}


@pytest.mark.parametrize("text", ["no", "12", "1e3", "[a]", "{a: b}", "a: b"])
def test_a_quoted_value_stays_a_string(write: Write, text: str) -> None:
    recipe = read(("data.streams.parallel.task.pivot", f'"{text}"'), ("description", text)).recipe
    assert recipe.data.streams["parallel"].task.model_dump() == {"pivot": text}
    assert recipe.description == text


@pytest.mark.parametrize(
    ("key", "found", "expected"),
    [("model.heads.frames", "3.0", "an integer"), ("training.compile", "1", "true or false")],
)
def test_a_type_that_jsonargparse_alone_refuses_has_key_and_value(
    write: Write, key: str, found: str, expected: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        read((key, found))
    (fault,) = caught.value.faults
    assert fault.key == key
    assert expected in fault.message
    assert f"found {found}" in fault.message


@pytest.mark.parametrize("written", ["training.steps: 5\n", "training+: {steps: 5}\n", "$schema: x\n"])
def test_a_key_that_means_more_to_jsonargparse_is_unknown(write: Write, written: str) -> None:
    write("wrong.yaml", f"base: good.yaml\n{written}")
    with pytest.raises(RecipeError) as caught:
        read_recipe(["wrong.yaml"], checks="none")
    (fault,) = caught.value.faults
    assert (fault.key, fault.place) == (written.partition(": ")[0], "wrong.yaml:2")
    assert "unknown key" in fault.message


@pytest.mark.parametrize("written", ["training: null\n", "training: good.yaml\n", 'training: "{steps: 5}"\n'])
def test_a_section_must_be_a_mapping(write: Write, written: str) -> None:
    write("wrong.yaml", f"base: good.yaml\n{written}")
    with pytest.raises(RecipeError, match=r"^wrong\.yaml:2: training: "):
        read_recipe(["wrong.yaml"], checks="none")


def test_a_component_without_import_path_works(write: Write) -> None:
    text = Path("stubs.py").read_text()
    made = "\n    class Made(Mixer):\n        '''Made in a function.'''\n\n    registry.add(Made)\n"
    write("stubs.py", text.rstrip() + made)
    recipe = read(("model.fusion", "Made"), ("model.fusion.heads", "4")).recipe
    assert (recipe.model.fusion.component_name(), recipe.model.fusion.heads) == ("Made", 4)


def test_null_is_allowed_where_the_type_says_so(write: Write) -> None:
    text = (
        Path("stubs.py")
        .read_text()
        .replace("heads: int = 2", "heads: int = 2\n    eye: VisionEncoderConfig | None = Eye()")
    )
    write("stubs.py", text)
    recipe = read(("model.fusion.eye", None), ("evaluation", None)).recipe
    assert recipe.evaluation is None
    assert recipe.model.fusion.model_dump() == {"heads": 2, "eye": None}


def test_the_environment_sets_no_key(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = read().recipe
    monkeypatch.setenv("JSONARGPARSE_DEFAULT_ENV", "true")
    monkeypatch.setenv("PYTEST_RECIPE__TRAINING__STEPS", "77")
    assert read().recipe == plain


def test_a_component_is_a_subclass_type_of_any_parser() -> None:
    load_plugins()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--vision", type=VisionEncoderConfig)
    options = parser.parse_args(["--vision", "TimmViT", "--vision.depth", "3"])
    vision = parser.instantiate(options).vision
    assert (vision.component_name(), vision.depth) == ("TimmViT", 3)

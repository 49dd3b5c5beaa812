from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from x2kit.cli.recipe_keys import split_keys
from x2kit.errors import RecipeError

Run = Callable[..., Any]


def split(*arguments: str) -> tuple[list[str], list[tuple[str, str]], list[tuple[str, str | None]]]:
    rest, keys = split_keys(arguments)
    return rest, keys.values, keys.help


def test_keys_are_separated_from_other_arguments() -> None:
    assert split(
        "train", "r", "--training.steps", "3", "--resume", "--model.text=Bert", "--run-dir", "d"
    ) == (
        ["train", "r", "--resume", "--run-dir", "d"],
        [("training.steps", "3"), ("model.text", "Bert")],
        [],
    )


def test_values_may_be_negative_empty_or_hold_an_equals_sign() -> None:
    assert split("--training.lr", "-1", "--description=", "--model.text.pretrained=a=b")[1] == [
        ("training.lr", "-1"),
        ("description", ""),
        ("model.text.pretrained", "a=b"),
    ]


def test_whole_sections_are_keys_too() -> None:
    assert split("--plugins", "[a.py]", "--plugin", "b.py") == (
        ["--plugin", "b.py"],
        [("plugins", "[a.py]")],
        [],
    )


def test_subcommands_without_recipes_may_have_an_option_named_like_a_section() -> None:
    assert split_keys(["embed", "--model", "m"], sections=())[0] == ["embed", "--model", "m"]


@pytest.mark.parametrize("arguments", [["--training.steps"], ["--training.steps", "--resume"]])
def test_a_key_without_value_is_refused(arguments: list[str]) -> None:
    with pytest.raises(
        RecipeError, match=r"^command line: training\.steps: needs a value: --training\.steps VALUE$"
    ):
        split_keys(arguments)


def test_help_may_name_a_component() -> None:
    assert split("--model.vision.help", "Swin", "--model.text.help", "recipe", "--training.help")[2] == [
        ("model.vision", "Swin"),
        ("model.text", None),
        ("training", None),
    ]
    assert split("--model.vision.help=Swin")[2] == [("model.vision", "Swin")]


def test_a_misspelt_section_is_refused_by_the_recipe(x2kit: Run, calls: list[Any]) -> None:
    done = x2kit("train", "good.yaml", "--trainig.steps", "3")
    assert done.status == 2
    assert done.err.startswith("command line: trainig: unknown key; nearest: training\n")
    assert calls == []


def test_subcommands_without_recipes_take_no_keys(x2kit: Run) -> None:
    assert x2kit("plugins", "--training.steps", "3").err == (
        "command line: training.steps: x2kit plugins accepts no recipe keys\n"
    )
    assert x2kit("recipes", "list", "--training.steps", "3").err == (
        "command line: training.steps: x2kit recipes list accepts no recipe keys\n"
    )


def test_evaluate_accepts_only_keys_of_evaluation_and_model(x2kit: Run, calls: list[Any]) -> None:
    assert x2kit("evaluate", "run", "--training.steps", "9").err == (
        "command line: training.steps: x2kit evaluate accepts only keys of evaluation, model\n"
    )
    assert calls == []

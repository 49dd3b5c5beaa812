"""A program of the user's own: a plain jsonargparse parser with options of type Recipe."""

from __future__ import annotations

import subprocess
import sys
from argparse import ArgumentError
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from x2kit.recipe import Recipe, read_recipe

Write = Callable[[str, str], Path]

PROGRAM = """\
from jsonargparse import ArgumentParser

from x2kit.recipe import Recipe

parser = ArgumentParser()
parser.add_argument("--teacher", type=Recipe)
parser.add_argument("--student", type=Recipe)
options = parser.parse_args()
for name in ("teacher", "student"):
    recipe = options[name]
    print(name, recipe.model.text.component_name(), recipe.training.steps)
"""


@pytest.fixture
def parser(write: Write) -> ArgumentParser:
    own = ArgumentParser(exit_on_error=False)
    own.add_argument("--config", action="config")
    own.add_argument("--recipe", type=Recipe)
    own.add_argument("--seed", type=int, default=0)
    return own


@pytest.mark.parametrize(
    ("value", "overrides"),
    [
        ("good.yaml", []),
        ("[good.yaml, overlays/bf16]", [("training.precision", "bf16")]),
        ("{base: good.yaml, training: {steps: 7}}", [("training.steps", 7)]),
        (
            "[good.yaml, {model: {text: OtherReader}, training: {lr: 1e-5}}]",
            [("model.text", "OtherReader"), ("training.lr", 1e-5)],
        ),
    ],
)
def test_an_option_reads_the_same_recipe(
    parser: ArgumentParser, value: str, overrides: list[tuple[str, Any]]
) -> None:
    expected = read_recipe(["good.yaml"], overrides).recipe
    assert parser.parse_args([f"--recipe={value}", "--seed", "3"]).recipe == expected
    assert parser.instantiate(parser.parse_args(["--recipe", value])).recipe == expected


def test_a_config_of_the_program_holds_a_recipe(parser: ArgumentParser, write: Write) -> None:
    write("program.yaml", "seed: 3\nrecipe:\n  base: good.yaml\n  training: {steps: 7}\n")
    options = parser.parse_args(["--config", "program.yaml"])
    assert options.recipe == read_recipe(["good.yaml"], [("training.steps", 7)]).recipe


def test_a_base_is_relative_to_the_config_that_names_it(parser: ArgumentParser, write: Write) -> None:
    write("folder/mine.yaml", "base: ../good.yaml\ntraining: {steps: 7}\n")
    write("folder/program.yaml", "recipe: {base: ./mine.yaml}\n")
    assert parser.parse_args(["--config", "folder/program.yaml"]).recipe.training.steps == 7


@pytest.mark.parametrize("value", ["{base: 3}", "[3]", "3", "{}", "[]", "{base: [good.yaml, {}]}"])
def test_an_invalid_recipe_is_refused(parser: ArgumentParser, value: str) -> None:
    with pytest.raises(ArgumentError, match=r'"recipe"'):
        parser.parse_args(["--recipe", value])


def test_printed_options_read_back(parser: ArgumentParser, write: Write) -> None:
    write("good.yaml", Path("good.yaml").read_text().replace("a recipe for tests", "\"'it''s 3'\""))
    options = parser.parse_args(["--recipe", "good.yaml", "--seed", "3"])
    write("printed.yaml", parser.dump(options))
    assert parser.parse_args(["--config", "printed.yaml"]).recipe == options.recipe


def test_every_fault_is_in_the_error(parser: ArgumentParser) -> None:
    with pytest.raises(Exception, match="nearest: steps") as caught:
        parser.parse_args(["--recipe", "{base: good.yaml, training: {stepps: 3, lr: fast}}"])
    assert "training.lr" in str(caught.value)


def test_a_missing_file_names_the_nearest(parser: ArgumentParser) -> None:
    with pytest.raises(Exception, match="nearest: quickstart/english"):
        parser.parse_args(["--recipe", "quickstart/englis"])


def test_a_plain_script_reads_two_recipes(write: Write) -> None:
    write("compare.py", PROGRAM)
    write("small.yaml", "base: good.yaml\nmodel: {text: OtherReader}\ntraining: {steps: 7}\n")
    done = subprocess.run(
        [sys.executable, "compare.py", "--teacher", "good.yaml", "--student", "small.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["teacher Reader 10", "student OtherReader 7"]

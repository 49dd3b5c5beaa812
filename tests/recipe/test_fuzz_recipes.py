"""Recipes, damaged in ten thousand ways, are read or refused with a RecipeError, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fuzzing import INPUTS, answered, damaged, damaged_value
from tests.recipe.conftest import Write
from x2kit.errors import RecipeError
from x2kit.recipe import read_recipe
from x2kit.recipe.yaml_text import COMMAND_LINE, parse, parse_value

SHIPPED = sorted(Path(__file__).parents[2].glob("recipes/**/*.yaml"))
PIECES = (
    *(
        b"&a ",
        b"*a ",
        b"!!binary ",
        b"!x ",
        b"<<: ",
        b"? ",
        b"- ",
        b"\n",
        b"\t",
        b": ",
        b"{",
        b"[",
        b"'",
        b"|\n",
    ),
    *(b"%YAML 9.9\n---\n", b"---\n", b"...\n", b"\xef\xbb\xbf", b"\xc2\x85", b'"\\0"', b'"\\ud800"'),
    *(b"0o9", b"1" * 5000, b"1e999", b".nan", b".NaN", b"2001-99-99"),
)
"""What means something in YAML."""
KEYS = (
    *(
        "base",
        "plugins",
        "model",
        "class_path",
        "init_args",
        "data",
        "training",
        "evaluation",
        "streams",
        "losses",
    ),
    *("steps", "description", "source", "kind", "vision", "other"),
)


def damaged_text(text: bytes, rng: random.Random) -> bytes:
    """Bytes damaged, or what means something in YAML put in somewhere."""
    if rng.random() < 0.5:
        return damaged(text, rng)
    place = rng.randrange(len(text) + 1)
    return text[:place] + rng.choice(PIECES) + text[place:]


@pytest.mark.slow
def test_text_of_recipes() -> None:
    rng = random.Random(0)
    texts = [file.read_bytes()[:600] for file in SHIPPED]

    def read(text: bytes) -> None:
        parse(text, "a.yaml", Path.cwd())

    good, bad = answered((damaged_text(rng.choice(texts), rng) for _ in range(INPUTS)), read, RecipeError)
    assert good + bad == INPUTS
    assert min(good, bad) > 10


def test_values_of_the_command_line() -> None:
    rng = random.Random(1)
    texts = [
        b"[1, {a: b}]",
        b"1e-4",
        b"{class_path: Bert, init_args: {layers: 2}}",
        b"'a \"b\"'",
        b"data/*.jsonl",
    ]

    def read(text: bytes) -> None:
        parse_value(text.decode(errors="surrogateescape"), COMMAND_LINE)

    good, bad = answered((damaged_text(rng.choice(texts), rng) for _ in range(INPUTS)), read, RecipeError)
    assert good + bad == INPUTS
    assert min(good, bad) > 10


@pytest.mark.slow
def test_whole_recipes(write: Write) -> None:
    rng = random.Random(2)
    text = Path("good.yaml").read_bytes()
    tree = yaml.safe_load(text)

    def recipe() -> bytes:
        if rng.random() < 0.5:
            return damaged_text(text, rng)
        changed: Any = damaged_value(tree, rng, KEYS)
        return yaml.safe_dump(changed).encode()

    def read(content: bytes) -> None:
        Path("fuzzed.yaml").write_bytes(content)
        read_recipe(["fuzzed.yaml"])

    good, bad = answered((recipe() for _ in range(INPUTS)), read, RecipeError)
    assert good + bad == INPUTS
    assert min(good, bad) > 10

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from x2kit.errors import RecipeError
from x2kit.recipe.yaml_text import COMMAND_LINE, parse, parse_value

EMPTY = "r.yaml: empty file; a recipe is a mapping like `training: {steps: 100}`"


def read(text: str | bytes) -> Any:
    data = text.encode() if isinstance(text, str) else text
    return parse(data, "r.yaml", Path("/folder"))


def refusal(text: str | bytes) -> str:
    with pytest.raises(RecipeError) as caught:
        read(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("-3", -3),
        ("0x1f", 31),
        ("010", 10),
        ("true", True),
        ("no", "no"),
        ("on", "on"),
        ("null", None),
        ("~", None),
        ("", None),
        ("'1e-4'", "1e-4"),
        ('"null"', "null"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("[1, [a, 2.5]]", [1, ["a", 2.5]]),
        ("{en: 1, no: 2}", {"en": 1, "no": 2}),
        ("-.inf", float("-inf")),
        ("+.INF", float("inf")),
        ("1" * 5000, "1" * 5000),  # which Python refuses to read
        ("v1.0", "v1.0"),
    ],
)
def test_scalars_follow_yaml_1_2(written: str, meant: object) -> None:
    assert read(f"key: {written}").plain() == {"key": meant}


@pytest.mark.parametrize("written", [".nan", ".NaN", ".NAN"])
def test_nan_is_read_in_each_spelling(written: str) -> None:
    assert math.isnan(read(f"key: {written}").plain()["key"])


def test_every_key_knows_its_line_and_folder() -> None:
    tree = read("# first\ntraining:\n  steps: 3\n  betas:\n    - 0.9\n    - 0.98\n")
    places = {key: place.line for key, place in tree.walk()}
    assert places == {"training": 2, "training.steps": 3, "training.betas": 4}
    assert tree.descend(["training", "betas", 1])[0].place.line == 6
    assert tree.child("training").place.folder == Path("/folder")


def test_a_duplicate_key_names_both_lines() -> None:
    message = refusal("data:\n  streams:\n    a: {x: 1}\n    b: 2\n    a: {x: 3}\n")
    assert message == "r.yaml:5: data.streams.a: duplicate key; first in line 3"


def test_all_duplicate_keys_are_named_at_once() -> None:
    message = refusal("a: 1\na: 2\nb: {c: 1, c: 2}\n")
    assert message.splitlines() == [
        "r.yaml:2: a: duplicate key; first in line 1",
        "r.yaml:3: b.c: duplicate key; first in line 3",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a: 1\nb: \xff\n", "r.yaml:2: not UTF-8 (byte 0xff); save the file as UTF-8"),
        ("a:\n\tb: 1\n", "r.yaml:2: found a tab in the indentation; indent with spaces"),
        ("a: 1\nb: \x07\n", "r.yaml:2: character U+0007 is not allowed in YAML"),
        ("", EMPTY),
        ("# only this\n", EMPTY),
        ("- a\n", "r.yaml:1: should be a mapping of keys to values"),
        (
            "a: !!python/object:os.system {}\n",
            "r.yaml:1: a: tag tag:yaml.org,2002:python/object:os.system is not supported; remove it",
        ),
        ("a: !mine 1\n", "r.yaml:1: a: tag !mine is not supported; remove it"),
        ("a: &x {b: *x}\n", "r.yaml:1: a.b: the alias refers to a value that contains it"),
        (
            "b: &x {c: 1}\na: {<<: *x}\n",
            "r.yaml:2: a: merge keys (<<) are not supported; use `base:` to extend another recipe",
        ),
        ('a: 1\nb: "x\\0y"\n', "r.yaml:2: b: invalid character U+0000"),
        ('a: ["\\ud800"]\n', "r.yaml:1: a.0: invalid character U+D800"),
        ('"\\udfff": 1\n', "r.yaml:1: invalid character U+DFFF in a key"),
        ("? [a, b]\n: 1\n", "r.yaml:1: a key should be a name, found a list or a mapping"),
    ],
)
def test_what_is_no_recipe_is_refused_with_file_and_line(text: str | bytes, message: str) -> None:
    assert refusal(text) == message


def test_broken_yaml_says_where_and_shows_the_line() -> None:
    message = refusal("a: 1\nb: [1, 2\nc: 3\n")
    assert message.startswith("r.yaml:3: not YAML: ")
    assert message.endswith("\n  c: 3")


def test_two_documents_in_one_file_are_refused() -> None:
    assert "expected a single document" in refusal("a: 1\n---\nb: 2\n")


def test_very_deep_nesting_is_refused_and_not_a_crash() -> None:
    assert refusal("a: " + "[" * 5000 + "]" * 5000) == "r.yaml: too deeply nested"


def test_nested_aliases_are_refused_before_they_exhaust_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]  # ten milliards
    message = refusal("\n".join(lines))
    assert message.endswith(": more than 100000 values, repeated aliases included")


def test_a_byte_order_mark_is_ignored() -> None:
    assert read(b"\xef\xbb\xbfa: 1\n").plain() == {"a": 1}


def test_an_alias_may_repeat_a_value() -> None:
    assert read("a: &x {b: 1}\nc: *x\n").plain() == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("200", 200),
        ("1e-4", 1e-4),
        ("null", None),
        ("", None),
        ("'7'", "7"),
        ("[en, de]", ["en", "de"]),
        ("{a: 1}", {"a": 1}),
        ("/data/run #3", "/data/run #3"),
        ("a: run", "a: run"),
        ("@home", "@home"),
        ("cuda:0", "cuda:0"),
        ("- a", "- a"),
        pytest.param("[" * 5000, "[" * 5000, id="nested too deeply"),
    ],
)
def test_a_value_of_the_command_line_loses_nothing(written: str, meant: object) -> None:
    node = parse_value(written, COMMAND_LINE)
    assert node.plain() == meant
    assert str(node.place) == "command line"


def test_invalid_bytes_on_the_command_line_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"command line: invalid character U\+DCFF"):
        parse_value("a\udcff", COMMAND_LINE)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from x2kit.recipe.yaml_text import parse, to_yaml

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\x00"))  # no text holds NUL
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=30)
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), VALUES, min_size=1))
def test_printed_values_read_back_here_and_elsewhere(values: dict[str, Any]) -> None:
    text = to_yaml(values)
    assert parse(text.encode(), "r.yaml", Path()).plain() == values
    assert yaml.safe_load(text) == values


@settings(max_examples=30)
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), VALUES, min_size=1))
def test_comments_change_no_value(values: dict[str, Any]) -> None:
    assert yaml.safe_load(to_yaml(values, lambda key: f"from {len(key)}")) == values


@pytest.mark.parametrize(
    "word", ["no", "1e-4", "null", "0x1f", "2024-01-01", "1:30", "- a", "a: b", " x", "日本"]
)
def test_strings_that_look_like_other_types_stay_strings(word: str) -> None:
    assert yaml.safe_load(to_yaml({"key": word})) == {"key": word}
    assert parse(to_yaml({"key": word}).encode(), "r.yaml", Path()).plain() == {"key": word}


def test_sections_are_blocks_and_lists_of_scalars_are_inline() -> None:
    assert to_yaml({"training": {"betas": [0.9, 0.98], "lr": 1e-4, "clip_norm": None}, "streams": {}}) == (
        "training:\n  betas: [0.9, 0.98]\n  lr: 0.0001\n  clip_norm: null\nstreams: {}\n"
    )

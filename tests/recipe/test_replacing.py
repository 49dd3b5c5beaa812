"""Sizes that an exchanged encoder takes over from the one that it replaces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from x2kit.errors import RecipeError
from x2kit.recipe import read_recipe

Write = Callable[[str, str], Path]

FOLLOWER = """
from x2kit.plugin import SettingError, TextEncoderConfig, TextFacts, hookimpl

class Follower(TextEncoderConfig):
    width: int = 16
    depth: int = 2

    def build(self, *arguments, **settings):
        raise AssertionError("a weight is built")

    build_tokenizer = build

    def describe(self):
        return TextFacts(self.width, 40, None)

    def in_place_of(self, other):
        if other.depth == 7:
            raise SettingError("depth", "cannot be described")
        taken = {"depth": other.depth + 1} if self.depth == 2 else {}
        return self.model_copy(update={"width": other.width, **taken})

@hookimpl
def x2kit_register(registry):
    registry.add(Follower)
"""


@pytest.fixture
def follower(write: Write) -> Callable[..., Any]:
    """Reads good.yaml with a text encoder that follows the replaced one, under these overlays and keys."""
    write("follower.py", FOLLOWER)
    write("follow.yaml", "model: {text: Follower}\n")

    def read(*overlays: str, keys: list[tuple[str, Any]] | None = None) -> Any:
        return read_recipe(["good.yaml", *overlays], keys or [], ["follower.py"], checks="none")

    return read


def test_an_encoder_inherits_the_sizes_it_asks_for(follower: Callable[..., Any]) -> None:
    assert follower("follow.yaml").recipe.model.text.depth == 4
    assert follower(keys=[("model.text", "Follower")]).recipe.model.text.depth == 4


def test_what_the_recipe_sets_stays(follower: Callable[..., Any]) -> None:
    read = follower("follow.yaml", keys=[("model.text.depth", 9)])
    assert (read.recipe.model.text.depth, read.origin("model.text.init_args.depth")) == (9, "command line")


def test_an_inherited_value_keeps_its_place(follower: Callable[..., Any], write: Write) -> None:
    write("wide.yaml", "model:\n  text:\n    init_args: {width: 32}\n")
    read = follower("wide.yaml", "follow.yaml")
    assert read.origin("model.text.init_args.width") == "wide.yaml:3"
    assert read.origin("model.text.init_args.depth") == "follow.yaml:1"  # 3 became 4


def test_the_replaced_encoder_is_the_last_one_before(follower: Callable[..., Any], write: Write) -> None:
    write("other.yaml", "model: {text: {class_path: OtherReader, init_args: {depth: 5}}}\n")
    assert follower("other.yaml", "follow.yaml").recipe.model.text.depth == 6


def test_an_invalid_encoder_gives_no_sizes(follower: Callable[..., Any], write: Write) -> None:
    write("wrong.yaml", "model: {text: {init_args: {dept: 5}}}\n")
    assert follower("wrong.yaml", "follow.yaml").recipe.model.text.depth == 2
    write("absent.yaml", "model: {text: Absent}\n")
    assert follower("absent.yaml", "follow.yaml").recipe.model.text.depth == 2
    write("undescribed.yaml", "model: {text: {init_args: {depth: 7}}}\n")
    assert follower("undescribed.yaml", "follow.yaml").recipe.model.text.depth == 2


def test_inherited_values_are_dumped(follower: Callable[..., Any], write: Write) -> None:
    read = follower("follow.yaml")
    write("saved.yaml", read.to_yaml())
    assert read_recipe(["saved.yaml"], checks="none").recipe == read.recipe


def test_the_papers_swap_has_the_sizes_of_the_papers_model() -> None:
    swapped = read_recipe(["pretrain/x2vlm-base-4m", "overlays/xlmr"], checks="without data")
    official = read_recipe(["official/cclm-base"]).recipe.model
    assert swapped.recipe.model == official
    assert swapped.origin("model.text.init_args.width") == "recipes/official/x2vlm-base.yaml:14"


def test_from_scratch_the_run_trains_its_tokenizer_where_it_did_before() -> None:
    before = read_recipe(["quickstart/multilingual"])
    after = read_recipe(["quickstart/multilingual", "overlays/xlmr"])
    assert after.facts == before.facts
    assert after.facts is not None
    assert after.facts.text.vocab_size is None


def test_heads_are_inherited_only_with_the_width() -> None:
    text: Any = read_recipe(
        ["official/x2vlm-base", "overlays/text/roberta"], [("model.text.width", 128)], checks="none"
    ).recipe.model.text
    assert (text.layers, text.width, text.size("heads")) == (12, 128, 4)


def test_a_width_mismatch_is_reported_at_the_encoder_that_sets_it() -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(["official/x2vlm-base", "overlays/xlmr"], [("model.text.width", 128)])
    (fault,) = caught.value.faults
    assert (fault.key, fault.place) == ("model.text.init_args.width", "command line")
    for part in (
        "12 heads do not divide the width 128",
        "set model.text.width, or model.fusion.heads (recipes/official/x2vlm-base.yaml:23)",
    ):
        assert part in fault.message

"""Warnings about learning rates, and about random weights that are not trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from x2kit.recipe import read_recipe
from x2kit.recipe.warnings import warnings_of

Write = Callable[[str, str], Path]


def warned(*keys: tuple[str, Any]) -> dict[str, str]:
    found = read_recipe(["good.yaml"], [("training.warmup", 0), *keys]).warnings
    return {warning.key: f"{warning.place}: {warning.message}" for warning in found}


def test_published_weights_far_above_their_usual_rate_are_warned_about(write: Write) -> None:
    found = warned(("training.lr", 2.5e-3))  # good.yaml names published weights of its text encoder alone
    assert list(found) == ["training.lr"]
    for part in ("command line: 0.0025 is 25 times", "weights of model.text", "set training.text_lr: 0.0001"):
        assert part in found["training.lr"]


def test_the_rate_of_the_encoder_itself_counts(write: Write) -> None:
    assert warned(("training.lr", 2.5e-3), ("training.text_lr", 1e-4)) == {}
    assert list(warned(("training.text_lr", 1e-3))) == ["training.text_lr"]
    assert list(warned(("training.vision_lr", 1e-3))) == []
    pretrained = ("model.vision.pretrained", "some-weights")
    assert list(warned(("training.vision_lr", 1e-3), pretrained)) == ["training.vision_lr"]


def test_rates_near_the_usual_one_and_weights_from_scratch_are_not_warned_about(write: Write) -> None:
    assert warned(("training.lr", 2.9e-4)) == {}
    assert warned(("training.lr", 2.5e-3), ("model.text.pretrained", None)) == {}


def test_a_component_says_which_rate_is_usual(write: Write) -> None:
    write(
        "slow.py",
        "from x2kit.plugin import FusionEncoderConfig, FusionFacts, hookimpl\n"
        "class Slow(FusionEncoderConfig):\n"
        "    def usual_lr(self):\n        return 1e-6\n"
        "    def describe(self, text_width, context_width):\n        return FusionFacts(text_width, 1)\n"
        "    def build(self, text_width, context_width, assets=None):\n        raise AssertionError\n"
        "@hookimpl\ndef x2kit_register(registry):\n    registry.add(Slow)\n",
    )
    keys = [("model.fusion", "Slow"), ("training.warmup", 0)]
    (warning,) = read_recipe(["good.yaml"], keys, ["slow.py"]).warnings
    assert "set training.fusion_lr: 1e-06" in warning.message


def test_a_warm_up_that_exceeds_the_run_is_warned_about(write: Write) -> None:
    keys = [("training.steps", 100)]
    (warning,) = read_recipe(["good.yaml"], keys).warnings  # it sets no warm-up, so 2500
    assert warning.key == "training.warmup"
    assert "2500 warm-up steps exceed the 100 steps" in warning.message
    assert "4.0%" in warning.message
    assert read_recipe(["good.yaml"], [*keys, ("training.warmup", 100)]).warnings == ()
    assert read_recipe(["good.yaml"], [*keys, ("training.warmup", 0.9)]).warnings == ()
    assert read_recipe(["good.yaml"], [("training.steps", 0)]).warnings == ()


def test_a_teacher_that_the_user_names_is_not_warned_about() -> None:
    key = "data.streams.parallel.objectives.distillation"
    recipes = [
        read_recipe(["adapt/new-languages"], keys, checks="none").recipe
        for keys in ([], [(f"{key}.teacher", "runs/english")])
    ]
    assert [[warning.key for warning in warnings_of(recipe)] for recipe in recipes] == [[key], []]


@pytest.mark.parametrize("setting", ["none", "norms", {"last_layers": 1}, {"lora": {}}])
def test_random_weights_that_are_not_trained_are_warned_about(write: Write, setting: Any) -> None:
    key = "training.trainable.vision"
    message = warned((key, setting))[key]
    for part in ("Eye starts from random weights", "set model.vision.pretrained or model.init_from"):
        assert part in message


def test_weights_from_a_file_may_be_frozen(write: Write) -> None:
    assert (
        warned(("training.trainable.text", "none")) == {}
    )  # good.yaml names published weights of its text encoder
    assert warned(("training.trainable.vision", "all")) == {}
    Path("run").mkdir()
    frozen = (("training.trainable.vision", "none"), ("training.warmup", 0), ("model.init_from", "./run"))
    assert not warnings_of(read_recipe(["good.yaml"], frozen, checks="none").recipe)
    fresh = (*frozen, ("model.init_except", ["vision"]))
    (warning,) = warnings_of(read_recipe(["good.yaml"], fresh, checks="none").recipe)
    assert warning.key == "training.trainable.vision"


@pytest.mark.parametrize("recipe", ["adapt/new-languages", "adapt/domain"])
def test_the_name_of_a_run_is_enough(recipe: str, tmp_path: Path) -> None:
    named = read_recipe([recipe], [("model.init_from", str(tmp_path))], checks="none")
    assert not warnings_of(named.recipe)

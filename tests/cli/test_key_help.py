from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]


def test_a_section_lists_its_keys_with_type_default_and_meaning(x2kit: Run) -> None:
    done = x2kit("train", "--training.help")
    assert done.status == 0
    assert "  --training.steps  (int, ≥ 0; default 0)\n      optimiser steps of the run, required" in done.out
    assert "  --training.precision  (auto | fp32 | tf32 | bf16 | fp16; default fp32)\n" in done.out


def test_one_key_is_explained_by_both_commands(x2kit: Run) -> None:
    shown = x2kit("recipes", "show", "training.lr")
    assert shown.out == (
        "  --training.lr  (float, > 0; default 0.0001)\n"
        "      peak learning rate\n"
        "      defined by x2kit.training.config.TrainingConfig\n"
    )
    assert x2kit("train", "--training.lr.help") == shown


def test_a_component_lists_its_settings(x2kit: Run) -> None:
    done = x2kit("train", "--plugin", "stubs.py", "--model.vision.help", "Eye")
    assert done.out == (
        "model.vision: Eye (plugin stubs)\n\nA vision encoder.\n\n"
        "  --model.vision.width  (int; default 16)\n"
        "  --model.vision.image_size  (int; default 32)\n"
        "  --model.vision.channels  (int; default 3)\n"
        "  --model.vision.pretrained  (name or path | null; default null)\n"
    )


def test_without_a_name_the_choice_of_the_recipe_is_shown(x2kit: Run) -> None:
    assert x2kit("train", "good.yaml", "--model.text.help").out.startswith(
        "model.text: Reader (plugin stubs)\n"
    )
    switched = x2kit("train", "good.yaml", "--model.text", "OtherReader", "--model.text.help").out
    assert switched.startswith("model.text: OtherReader (plugin stubs)\n")


def test_without_recipe_and_name_the_components_are_listed(x2kit: Run) -> None:
    done = x2kit("train", "--plugin", "stubs.py", "--model.fusion.help")
    assert "\n  Mixer  A fusion encoder.\n" in done.out
    assert done.out.endswith("see the settings of one: --model.fusion.help NAME\n")


def test_settings_inside_settings_are_listed(x2kit: Run) -> None:
    done = x2kit("recipes", "show", "good.yaml", "--model.text.lexicon.help")
    assert "  --model.text.lexicon.size  (int; default 100)\n" in done.out


def test_entries_are_listed_under_a_name(x2kit: Run) -> None:
    assert (
        "  --data.streams.NAME.batch_size  (int, > 0; required)\n"
        in x2kit("train", "--data.streams.help").out
    )


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("--modl.help", "command line: modl: unknown key; nearest: model\n"),
        (
            "--model.vision.width.help",
            "command line: model.vision.width: a setting of an unknown component; give a recipe",
        ),
    ],
)
def test_help_on_an_unknown_key_is_refused(x2kit: Run, key: str, message: str) -> None:
    done = x2kit("train", key)
    assert done.status == 2
    assert done.err.startswith(message)


def test_help_on_an_unknown_component_names_the_nearest(x2kit: Run) -> None:
    done = x2kit("train", "--plugin", "stubs.py", "--model.vision.help", "Eyes")
    assert done.status == 2
    assert done.err.startswith('no vision component is called "Eyes"; nearest: "Eye"')

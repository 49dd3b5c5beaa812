"""The schema that editors use says of a recipe file what reading it says.

Each case is a change of good.yaml (what is replaced, by what), checked by a validator of JSON Schema as editors have
one, and by reading the recipe. Rules between keys, such as widths that must be equal, are beyond a schema.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from x2kit.errors import RecipeError
from x2kit.plugin.loading.manager import load_plugins
from x2kit.recipe import read_recipe
from x2kit.recipe.catalogue import is_overlay, shipped
from x2kit.recipe.json_schema import json_schema
from x2kit.recipe.yaml_text import parse

Write = Callable[[str, str], Path]

HERE = Path(__file__).parent

RIGHT = {
    "as it is": ("", ""),
    "a component with settings for its name": (
        "vision: Eye\n",
        "vision: {class_path: Eye, init_args: {width: 16}}\n",
    ),
    "settings that are null": ("vision: Eye\n", "vision: {class_path: Eye, init_args: null}\n"),
    "a number for a loss": ("{bbox: 2}", "{bbox: 0.5, giou: {start: 0.5}}"),
    "objectives by name": (
        "init_args: {pivot: en}}\n",
        "init_args: {pivot: en}}\n      objectives:\n        one: SigmoidContrastive\n"
        "        other: {class_path: SigmoidContrastive, init_args: {weight: 0.5, start: 0.5}}\n",
    ),
    "no pivot": ("pivot: en", "pivot: null"),
    "no evaluation": ("evaluation:\n  source: Scenes\n  tasks:\n    retrieval: Rank\n", ""),
    "a number without a point where one with a point is expected": ("lr: 1e-4", "lr: 1"),
    "a list for a pair": ("lr: 1e-4", "optimizer: {class_path: AdamW, init_args: {betas: [0.9, 0.999]}}"),
    "a base, which has what is missing here": ("description: a recipe for tests\n", "base: good.yaml\n"),
}
WRONG = {
    "an unknown section": ("training:\n", "trainings: {}\ntraining:\n"),
    "an unknown key": ("  steps: 10\n", "  steps: 10\n  stepps: 10\n"),
    "an unknown key of a stream": ("      batch_size: 8\n", "      batch_size: 8\n      block_size: 2\n"),
    "an unknown setting of a component": ("      depth: 3\n", "      dept: 3\n"),
    "an unknown component": ("vision: Eye\n", "vision: Eyes\n"),
    "a component of another kind": ("vision: Eye\n", "vision: Mixer\n"),
    "an unknown component with settings": ("class_path: Reader", "class_path: Readers"),
    "settings beside class_path": ("class_path: Reader\n", "class_path: Reader\n    depth: 3\n"),
    "a text for a number": ("steps: 10", "steps: many"),
    "a number below its bound": ("steps: 10", "steps: -1"),
    "a fraction for a whole number": ("steps: 10", "steps: 10.5"),
    "no such choice": ("lr: 1e-4", "precision: bf61"),
    "one value for a pair": ("lr: 1e-4", "optimizer: {class_path: AdamW, init_args: {betas: 0.9}}"),
    "no such task": ("class_path: ParallelText", "class_path: ParalelText"),
    "an unknown setting of an objective": (
        "init_args: {pivot: en}}\n",
        "init_args: {pivot: en}}\n      objectives: {one: {class_path: SigmoidContrastive, init_args: {wait: 1}}}\n",
    ),
    "a reporter that is none": ("lr: 1e-4", "reporters: {there: Eye}"),
    "a stream without a source": ("      source: Scenes\n      batch_size: 8\n", "      batch_size: 8\n"),
    "a stream without a batch size": ("      batch_size: 8\n", ""),
    "a model without a fusion encoder": ("  fusion: Mixer\n", ""),
    "no model": ("model:\n  vision: Eye\n", "heads:\n  vision: Eye\n"),
    "a list for a section": ("  steps: 10\n  lr: 1e-4\n", "  - steps: 10\n"),
    "a stream that is null where nothing is laid over": (
        "  streams:\n    images:\n",
        "  streams:\n    other: null\n    images:\n",
    ),
}


@cache
def _schema(overlay: bool = False) -> dict[str, Any]:
    schema = json_schema(load_plugins([str(HERE / "stub_plugin.py")]).registry, overlay)
    Draft202012Validator.check_schema(schema)
    return schema


def _faults(text: str, overlay: bool = False) -> list[str]:
    content = parse(text.encode(), "case.yaml", Path()).plain()
    return [error.message for error in Draft202012Validator(_schema(overlay)).iter_errors(content)]


def _changed(good: str, old: str, new: str) -> str:
    assert old in good
    return good.replace(old, new, 1) if old else good


@pytest.mark.parametrize("case", RIGHT)
def test_a_valid_recipe_passes_both(case: str, write: Write, good: str) -> None:
    text = _changed(good, *RIGHT[case])
    read_recipe([write("case.yaml", text)], checks="none")
    assert _faults(text) == []


@pytest.mark.parametrize("case", WRONG)
def test_an_invalid_recipe_fails_both(case: str, write: Write, good: str) -> None:
    text = _changed(good, *WRONG[case])
    with pytest.raises(RecipeError):
        read_recipe([write("case.yaml", text)], checks="none")
    assert _faults(text)


def test_an_overlay_needs_no_key_and_may_remove_entries() -> None:
    text = "data: {streams: {regions: null, images: {batch_size: 8, losses: {mlm: null}}}}\n"
    assert _faults(text, overlay=True) == []
    assert _faults("data: {streams: null}\n", overlay=True) == []
    assert _faults(text)
    assert _faults("data: {streams: {images: {batch_sizes: 8}}}\n", overlay=True)


def test_a_component_with_required_settings_needs_init_args() -> None:
    assert _faults("evaluation: {source: JsonLines}\n", overlay=True) == []
    model = "model: {vision: Eye, fusion: Mixer, text: Reader}\n"

    def measured_on(source: str) -> str:
        return f"{model}evaluation: {{source: {source}, tasks: {{ranks: Rank}}}}\n"

    assert _faults(measured_on("{class_path: JsonLines, init_args: {files: [a.jsonl]}}")) == []
    for source in ("JsonLines", "{class_path: JsonLines, init_args: null}"):
        assert _faults(measured_on(source))


@pytest.mark.parametrize("file", shipped(), ids=lambda file: file.name)
def test_every_shipped_recipe_follows_the_schema(file: Any) -> None:
    assert _faults(file.path.read_text(), overlay=is_overlay(file)) == []


def test_keys_have_descriptions_for_editors() -> None:
    assert _schema()["$defs"]["TrainingConfig"]["properties"]["lr"]["description"] == "peak learning rate"

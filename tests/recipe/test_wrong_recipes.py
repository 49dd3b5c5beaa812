"""Wrong recipes: each is refused before anything is built, in one message with key and place.

The components of the recipe are stubs whose `build` fails the test.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from x2kit.errors import RecipeError
from x2kit.recipe import read_recipe
from x2kit.training.config import TrainingConfig

Write = Callable[[str, str], Path]

REPLACED: dict[str, tuple[str, str, str]] = {
    "unknown key": (
        "  steps: 10\n",
        "  stepps: 10\n  steps: 10\n",
        "wrong.yaml:27: training.stepps: unknown key; nearest: steps\n"
        f"  known: {', '.join(TrainingConfig.model_fields)}",
    ),
    "misspelt setting of a component": (
        "      depth: 3\n",
        "      dept: 3\n",
        "wrong.yaml:8: model.text.init_args.dept: unknown key; nearest: depth\n"
        "  known: width, depth, pretrained, lexicon",
    ),
    "wrong type": (
        "  steps: 10\n",
        "  steps: many\n",
        'wrong.yaml:27: training.steps: should be an integer, found "many"',
    ),
    "one value where a list stands": (
        "  steps: 10\n",
        "  steps: 10\n  betas: 0.9\n",
        "wrong.yaml:28: training.optimizer.init_args.betas: should be a list, found 0.9",
    ),
    "wrong choice": (
        "  steps: 10\n",
        "  steps: 10\n  precision: bf61\n",
        "wrong.yaml:28: training.precision: should be 'auto', 'fp32', 'tf32', 'bf16' or 'fp16', found \"bf61\"; "
        "nearest: bf16",
    ),
    "a section that is no mapping": (
        "training:\n  steps: 10\n  lr: 1e-4\n",
        "training: fast\n",
        'wrong.yaml:26: training: should be a mapping, found "fast"',
    ),
    "width mismatch that the contract forbids": (
        "      depth: 3\n",
        "      depth: 3\n      width: 32\n",
        "wrong.yaml:5: model.text: has width 32, but model.vision has 16, and in data.streams.parallel ttm and tlm "
        "use texts as the fusion encoder's context in place of images, which needs equal widths\n"
        "  set model.vision.width: 32, or data.streams.parallel.losses.ttm: 0 and "
        "data.streams.parallel.losses.tlm: 0",
    ),
    "missing file": (
        "evaluation:\n  source: Scenes\n",
        "evaluation:\n  source: {class_path: Scenes, init_args: {file: absent.jsonl}}\n",
        "wrong.yaml:30: evaluation.source.init_args.file: not found: absent.jsonl",
    ),
    "unknown language": (
        "task: {class_path: ParallelText, init_args: {pivot: en}}\n",
        "task: ParallelText\n      languages: [de, xx]\n",
        "wrong.yaml:24: data.streams.parallel.languages: the source has no xx\n  known: en, de, zh",
    ),
    "zero batch": (
        "      batch_size: 8\n",
        "      batch_size: 0\n",
        "wrong.yaml:20: data.streams.regions.batch_size: should be greater than 0, found 0",
    ),
    "a stream without source": (
        "init_args: {images_from: images}}\n      source: Scenes\n",
        "init_args: {images_from: images}}\n",
        "wrong.yaml:17: data.streams.regions.source: missing: source of the records",
    ),
    "two streams with one name": (
        "    parallel:\n",
        "    images:\n",
        "wrong.yaml:22: data.streams.images: duplicate key; first in line 13",
    ),
    "a section that is missing": (
        "training:\n  steps: 10\n  lr: 1e-4\n",
        "",
        "wrong.yaml: training.steps: missing: number of optimiser steps",
    ),
}


def refusal(*names: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read_recipe(names)
    return str(caught.value)


@pytest.mark.parametrize("wrong", REPLACED)
def test_an_invalid_recipe_names_key_and_place(write: Write, good: str, wrong: str) -> None:
    old, new, message = REPLACED[wrong]
    assert good.count(old) == 1
    write("wrong.yaml", good.replace(old, new))
    assert refusal("wrong.yaml") == message


def test_a_misspelt_component_is_refused_with_the_nearest_and_the_known(write: Write, good: str) -> None:
    write("wrong.yaml", good.replace("vision: Eye", "vision: Eyes"))
    first, known, *_, last = refusal("wrong.yaml").splitlines()
    assert first == (
        'wrong.yaml:4: model.vision: no vision component is called "Eyes"; nearest: "Eye" (plugin stubs)'
    )
    assert known.startswith("  known: ")
    assert "Eye" in known.removeprefix("  known: ").split(", ")
    assert last == "  see: x2kit plugins list --kind vision"


def test_a_missing_plugin_names_the_path_searched(write: Write, good: str, tmp_path: Path) -> None:
    write("wrong.yaml", good.replace("stubs.py", "stabs.py"))
    message = refusal("wrong.yaml")
    assert message.startswith(f"wrong.yaml:2: plugins: plugin '{tmp_path}/stabs.py' is required but failed: ")
    assert f"there is no file {tmp_path}/stabs.py" in message
    assert "\n" not in message.removesuffix("\n  see: x2kit plugins")


def test_a_broken_plugin_names_its_error(write: Write, good: str) -> None:
    write("broken.py", "import a_module_that_nobody_has\n")
    write("wrong.yaml", good.replace("plugins: [stubs.py]", "plugins:\n  - stubs.py\n  - broken.py"))
    message = refusal("wrong.yaml")
    assert message.startswith("wrong.yaml:4: plugins: plugin ")
    assert "No module named 'a_module_that_nobody_has'" in message


def test_all_faults_are_named_at_once(write: Write) -> None:
    write(
        "wrong.yaml",
        "training: {steps: -1, lr: fast}\ndata: {streams: {images: {batch_size: 0}}}\nmodel: {vison: Eye}\n",
    )
    assert refusal("good.yaml", "wrong.yaml").splitlines() == [
        "wrong.yaml:3: model.vison: unknown key; nearest: vision",
        "  known: vision, text, fusion, heads, init_from, init_except",
        "wrong.yaml:2: data.streams.images.batch_size: should be greater than 0, found 0",
        "wrong.yaml:1: training.steps: should be greater than or equal to 0, found -1",
        'wrong.yaml:1: training.lr: should be a number, found "fast"',
    ]


def test_the_command_line_prints_no_traceback(write: Write, good: str) -> None:
    write("wrong.yaml", good.replace("  steps: 10\n", "  steps: many\n"))
    done = subprocess.run(
        [sys.executable, "-m", "x2kit", "train", "wrong.yaml", "--run-dir", "run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == 'wrong.yaml:27: training.steps: should be an integer, found "many"\n'
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("training.optimizer.betas", "[0.9]", "should be a list of 2 numbers, found a list of 1"),
        ("training.optimizer.betas", "[0.9, 0.98, 1]", "should be a list of 2 numbers, found a list of 3"),
        (
            "data.streams.scenes.transform.crop_scale",
            "[]",
            "should be a list of 2 numbers, found a list of 0",
        ),
        ("model.text.pretrained_layers", "[]", "should be a list of at least 1, found a list of 0"),
        ("model.vision.value_range", "[1]", "should be a list of 2 numbers, found a list of 1"),
    ],
)
def test_a_list_of_the_wrong_length_says_how_long_it_should_be(key: str, value: str, said: str) -> None:
    names = ["quickstart/english"]
    if "value_range" in key:
        names.append("overlays/vision/dinov2")
    with pytest.raises(RecipeError) as caught:
        read_recipe(names, [(key, value)])
    (fault,) = caught.value.faults
    assert fault.key.replace("init_args.", "") == key
    assert fault.message == said

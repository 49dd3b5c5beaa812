"""Every task of the quickstart starts from its weights, trains and is measured in its languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from x2kit.cli import main
from x2kit.recipe import read_recipe

TASKS = ("grounding", "questions", "pairs", "entailment", "captions", "video-questions", "weak-grounding")
SMALL = (
    "--data.num_workers=0",
    "--training.device=cpu",
    "--training.warmup=0",
    "--training.checkpoint_every=9",
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Initial weights of the quickstart, which hold its vocabulary."""
    run = tmp_path_factory.mktemp("quickstart") / "run"
    assert (
        main(["train", "quickstart/multilingual", "--run-dir", str(run), *SMALL, "--training.steps=0"]) == 0
    )
    return run


@pytest.mark.parametrize(
    "name", [name if name == "pairs" else pytest.param(name, marks=pytest.mark.slow) for name in TASKS]
)
def test_it_trains_from_the_weights_of_the_quickstart_and_is_measured(
    name: str, weights: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    start = f"--model.init_from={weights}"
    assert (
        main(["train", f"quickstart/{name}", "--run-dir", str(run), start, *SMALL, "--training.steps=1"]) == 0
    )
    languages = ["en"] if name == "captions" else ["en", "ja"]
    few = ("--evaluation.source.init_args.size=12", f"--evaluation.languages={json.dumps(languages)}")
    assert main(["evaluate", str(run), "--split", "test", *few]) == 0
    result: dict[str, Any] = json.loads((run / "evaluation.json").read_text())
    task = name.removeprefix("video-")
    found = result["grounding"] if name.endswith("grounding") else result["tasks"][task]["result"]["scores"]
    assert sorted(found) == languages


@pytest.mark.parametrize("name", TASKS)
def test_no_image_is_flipped_because_texts_say_left_and_right(name: str) -> None:
    recipe = read_recipe([f"quickstart/{name}"], checks="none").recipe
    for stream in recipe.data.streams.values():
        assert stream.transform.flip == 0 or not stream.has_images

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_the_list_has_names_and_descriptions(x2kit: Run) -> None:
    done = x2kit("recipes", "list")
    assert done.status == 0
    (line,) = [line for line in done.out.splitlines() if line.startswith("overlays/bf16 ")]
    assert "bfloat16" in line
    names = [entry["name"] for entry in json.loads(x2kit("recipes", "list", "--json").out)]
    assert "overlays/xlmr" in names


def test_show_prints_the_recipe_with_the_place_of_each_value(x2kit: Run) -> None:
    done = x2kit("recipes", "show", "good.yaml", "--config", "overlays/bf16", "--training.seed", "7")
    assert done.status == 0
    lines = done.out.splitlines()
    assert "  steps: 10  # good.yaml:27" in lines
    assert "  precision: bf16  # recipes/overlays/bf16.yaml:3" in lines
    assert "  seed: 7  # command line" in lines
    assert "  weight_decay: 0.01  # default" in lines


def test_show_plain_prints_a_recipe_without_comments(x2kit: Run, folder: Path) -> None:
    plain = x2kit("recipes", "show", "good.yaml", "--plain").out
    assert "#" not in plain
    (folder / "copy.yaml").write_text(plain)
    assert x2kit("recipes", "show", "copy.yaml", "--plain").out == plain


def test_copy_writes_a_file_once(x2kit: Run, folder: Path) -> None:
    done = x2kit("recipes", "copy", "overlays/xlmr", "mine.yaml")
    assert done == (0, "mine.yaml\nnext: x2kit recipes validate mine.yaml\n", "")
    assert "XLMRoberta" in (folder / "mine.yaml").read_text()
    again = x2kit("recipes", "copy", "overlays/bf16", "mine.yaml")
    assert again == (2, "", "mine.yaml: file exists; choose another name\n")


def test_validate_prints_what_was_resolved(x2kit: Run) -> None:
    assert x2kit("recipes", "validate", "good.yaml", "--training.warmup", "0").out == (
        "good.yaml: ok\n"
        "  vision  Eye: images 32×32×3, grid 4×4, width 16\n"
        "  text    Reader: width 16, at most 40 tokens, vocabulary to be trained on the run's texts\n"
        "  fusion  Mixer: width 16, 1 layer\n"
        "  stream  images: ImageText from Scenes, 4 rows per step; itc, itm, mlm\n"
        "  stream  regions: RegionText from Scenes, 8 rows per step; itc, itm, mlm, bbox × 2, giou\n"
        "  stream  parallel: ParallelText from Scenes, 4 rows per step; ttc, ttm, tlm\n"
        "  training 10 steps\n"
        "  evaluation Scenes, test: retrieval\n"
    )


def test_validate_names_the_faults_of_every_recipe(x2kit: Run, folder: Path) -> None:
    good = (folder / "good.yaml").read_text()
    (folder / "one.yaml").write_text(good.replace("steps: 10", "steps: -1"))
    (folder / "two.yaml").write_text(
        good.replace("vision: Eye", "vision: {class_path: Eye, init_args: {w: 1}}")
    )
    done = x2kit("recipes", "validate", "one.yaml", "good.yaml", "two.yaml")
    assert done.status == 2
    assert done.out.startswith("good.yaml: ok\n")
    assert (
        done.err.splitlines()[0]
        == "one.yaml:27: training.steps: should be greater than or equal to 0, found -1"
    )
    assert done.err.splitlines()[1] == "two.yaml:4: model.vision.init_args.w: unknown key"


def test_validate_speaks_json(x2kit: Run) -> None:
    done = x2kit("recipes", "validate", "good.yaml", "absent.yaml", "--json")
    first, second = json.loads(done.out)
    assert done.status == 2
    assert first["ok"]
    assert first["model"]["vision"] == {
        "component": "Eye",
        "image_size": 32,
        "channels": 3,
        "grid": [4, 4],
        "width": 16,
    }
    assert first["streams"]["regions"]["losses"] == {"itc": 1, "itm": 1, "mlm": 1, "bbox": 2, "giou": 1}
    assert (second["ok"], second["faults"][0]["place"]) == (False, "absent.yaml")


def test_validate_takes_overlays_and_keys(x2kit: Run) -> None:
    done = x2kit(
        "recipes", "validate", "good.yaml", "--config", "overlays/debug", "--data.streams.parallel", "null"
    )
    assert "  training 6 steps\n" in done.out
    assert "parallel" not in done.out


def test_diff_lists_the_changed_keys_of_two_recipes(x2kit: Run, folder: Path) -> None:
    (folder / "other.yaml").write_text(
        "base: good.yaml\ntraining: {steps: 20}\ndata: {streams: {regions: null}}\n"
    )
    lines = x2kit("recipes", "diff", "good.yaml", "other.yaml").out.splitlines()
    assert "training.steps: 10 → 20" in lines
    assert "data.streams.regions.batch_size: 8 → absent" in lines
    assert not any("training.lr:" in line for line in lines)


def test_diff_of_one_recipe_lists_what_overlays_and_keys_change(x2kit: Run) -> None:
    done = x2kit(
        "recipes", "diff", "good.yaml", "--config", "overlays/bf16", "--training.seed", "7", "--json"
    )
    assert json.loads(done.out) == [
        {"key": "training.seed", "before": 42, "after": 7},
        {"key": "training.precision", "before": "fp32", "after": "bf16"},
    ]
    assert x2kit("recipes", "diff", "good.yaml").out == "no difference\n"


def test_schema_prints_json_schema_with_the_components_of_plugins(x2kit: Run) -> None:
    schema = json.loads(x2kit("recipes", "schema", "--plugin", "stubs.py").out)
    assert "Eye" in schema["$defs"]
    assert "if" not in json.loads(x2kit("recipes", "schema", "--overlay").out)
    assert x2kit("recipes", "schema", "recipe.json").out == "recipe.json\n"
    assert "TrainingConfig" in json.loads(Path("recipe.json").read_text())["$defs"]


def test_validate_prints_warnings_and_accepts_the_recipe(x2kit: Run) -> None:
    command = ("recipes", "validate", "good.yaml", "--training.text_lr", "1e-3", "--training.warmup", "0")
    done = x2kit(*command)
    assert done.status == 0
    assert "warning: command line: training.text_lr: 0.001 is 10 times" in done.out
    (entry,) = json.loads(x2kit(*command, "--json").out)
    assert (entry["valid"], [warning["key"] for warning in entry["warnings"]]) == (True, ["training.text_lr"])


@pytest.mark.parametrize("overlay", ["overlays/xlmr", "overlays/debug", "overlays/tasks/retrieval"])
def test_an_overlay_alone_is_named_as_one(x2kit: Run, overlay: str) -> None:
    done = x2kit("recipes", "validate", overlay)
    assert done.status == 2
    said = f"recipes/{overlay}.yaml: is an overlay, not a recipe; merge it over one: "
    assert f"{said}x2kit SUBCOMMAND RECIPE --config {overlay}\n" in done.err

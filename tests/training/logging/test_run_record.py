from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

import x2kit
from x2kit.io.run_directory import read_metrics
from x2kit.plugin import Published
from x2kit.training.logging.run_record import RunRecord, hardware, processor, published_weights, versions


def open_record(run: Path, steps_done: int = 0) -> RunRecord:
    return RunRecord(run, "model: tiny\n", {"seed": 7}, steps_done)


def write(run: Path, *steps: int, done: int = 0) -> None:
    record = open_record(run, done)
    for step in steps:
        record.write(step, {"loss": step / 10, "images.itc": 1.0})
    record.close()


def steps(run: Path) -> list[Any]:
    return [line["step"] for line in read_metrics(run)]


def test_a_run_leaves_recipe_versions_and_metrics(tmp_path: Path) -> None:
    write(tmp_path / "run", 1, 2)
    assert (tmp_path / "run/recipe.yaml").read_text() == "model: tiny\n"
    facts = json.loads((tmp_path / "run/versions.json").read_text())
    assert facts["seed"] == 7
    assert facts["packages"]["torch"] == versions()["packages"]["torch"]
    assert facts["packages"]["x2kit"] == x2kit.__version__
    assert facts["python"].startswith("3.")
    assert read_metrics(tmp_path / "run")[1] == {"step": 2, "loss": 0.2, "images.itc": 1.0}


def test_metrics_can_be_read_during_the_run(tmp_path: Path) -> None:
    record = open_record(tmp_path)
    record.write(1, {"loss": 0.5})
    assert steps(tmp_path) == [1]
    record.close()


def test_an_unfinished_last_line_is_dropped(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert steps(tmp_path) == [1, 2]
    write(tmp_path, 3, done=2)
    assert steps(tmp_path) == [1, 2, 3]


def test_a_resumed_run_replaces_later_lines(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3, 4)
    write(tmp_path, 3, done=2)
    assert steps(tmp_path) == [1, 2, 3]


def test_a_new_run_has_no_lines(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
    write(tmp_path)
    assert read_metrics(tmp_path) == []


def test_values_survive_a_round_trip(tmp_path: Path) -> None:
    record = open_record(tmp_path)
    record.write(1, {"loss": 1 / 3, "tiny": 5e-324})
    record.close()
    write(tmp_path, done=1)  # read and written once more
    (line,) = read_metrics(tmp_path)
    assert (line["loss"], line["tiny"]) == (1 / 3, 5e-324)


def test_synced_lines_survive_a_kill(tmp_path: Path) -> None:
    record = open_record(tmp_path)
    record.write(1, {"loss": 0.1})
    record.sync()
    assert steps(tmp_path) == [1]  # nothing was closed
    record.close()


def test_the_previous_recipe_is_kept_after_a_change(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    RunRecord(tmp_path, "model: tiny\n", {}, 2).close()
    assert list(tmp_path.glob("recipe.until*")) == []
    RunRecord(tmp_path, "model: changed\n", {}, 2).close()
    assert (tmp_path / "recipe.yaml").read_text() == "model: changed\n"
    assert (tmp_path / "recipe.until-step-0000002.yaml").read_text() == "model: tiny\n"


def test_the_processor_and_the_device_are_recorded() -> None:
    assert versions()["processor"] == processor() != ""
    assert versions()["cores"] > 0
    assert hardware(torch.device("cpu"), 4) == {"device": "cpu", "accelerator": None, "processes": 4}


def test_published_weights_are_recorded_as_they_are_when_the_run_starts() -> None:
    bert = SimpleNamespace(published=lambda: Published("org/bert", True, "abc", "mit"))
    none = SimpleNamespace(published=lambda: None)
    model: Any = SimpleNamespace(vision=none, text=bert, fusion=none)
    assert published_weights(model) == {
        "text": {"name": "org/bert", "on_hub": True, "revision": "abc", "licence": "mit"}
    }

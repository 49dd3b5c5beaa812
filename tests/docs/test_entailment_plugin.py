"""The plugin of visual entailment: it trains, resumes after a kill, is measured, and passes its own tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from PIL import Image

from tests.forked import Program
from x2kit.cli import main

from ..training.test_resume import stop, weights
from .pages import DOCS, blocks

PAGE = DOCS / "how-to" / "add-a-task.md"
PLUGIN = DOCS / "plugins" / "x2kit-entailment"
MODULE = PLUGIN / "x2kit_entailment"
MOST_LINES = 150
COLOURS = ("red", "green", "blue")
LABELS = ("entailment", "contradiction", "neutral")
SMALL = {
    "model.vision.image_size": 32,
    "model.vision.width": 16,
    "model.vision.depth": 1,
    "model.text": {"class_path": "Bert", "init_args": {"width": 16, "heads": 2, "layers": 1}},
    "model.fusion.layers": 1,
    "model.fusion.heads": 2,
    "model.heads.embed_dim": 8,
    "data.num_workers": 0,
    "data.streams.statements.batch_size": 6,
    "training.steps": 24,
    "training.threads": 1,
    "training.checkpoint_every": 4,
    "training.log_every": 1,
    "training.device": "cpu",
    "training.precision": "fp32",
}


def write(folder: Path) -> None:
    """Images of one colour, darker in the test split; a sentence names theirs, another one, or none."""
    (folder / "data").mkdir()
    for split, count in (("train", 18), ("test", 9)):
        for colour in COLOURS:
            shade = colour if split == "train" else f"dark{colour}"
            Image.new("RGB", (40, 30), shade).save(folder / f"data/{split}-{colour}.png")
        with (folder / f"data/{split}.jsonl").open("w") as file:
            for number in range(count):
                colour, other = COLOURS[number % 3], COLOURS[(number + 1) % 3]
                said = (f"all is {colour}", f"all is {other}", f"a sentence of {number}")[number // 3 % 3]
                record = {"image": f"{split}-{colour}.png", "caption": said, "label": LABELS[number // 3 % 3]}
                file.write(json.dumps({"id": str(number), **record}) + "\n")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: small files, and the recipes of the plugin."""
    write(tmp_path)
    shutil.copytree(PLUGIN / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(directory: str) -> list[str]:
    keys = [f"--{key}={value}" for key, value in SMALL.items()]
    return ["train", "recipes/files.yaml", "--plugin", str(MODULE), "--run-dir", directory, *keys]


def test_it_resumes_after_a_kill_with_equal_weights_and_is_measured(folder: Path) -> None:
    assert main(train("whole")) == 0
    metrics = [json.loads(line) for line in Path("whole/metrics.jsonl").read_text().splitlines()]
    assert all("statements.entailment" in line for line in metrics)
    status, _ = stop(train("killed"), Path("killed"), signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert main(["train", "--resume", "--run-dir", "killed"]) == 0
    assert weights(Path("killed")) == weights(Path("whole"))

    assert main(["evaluate", "whole"]) == 0
    result = json.loads(Path("whole/evaluation.json").read_text())["tasks"]["entailment"]["result"]
    scores = result["scores"]["en"]
    assert (scores["rows"], scores["chance"], scores["most_frequent"]) == (9, 1 / 3, 1 / 3)
    (file,) = folder.glob("whole/evaluation*predictions-en.json")
    predictions = {each["id"]: each["prediction"] for each in json.loads(file.read_text())}
    truth = [json.loads(line) for line in Path("data/test.jsonl").read_text().splitlines()]
    right = sum(predictions[record["id"]] == record["label"] for record in truth)
    assert scores["accuracy"] == right / 9
    assert result["mean"] == scores["accuracy"]


def test_a_record_with_another_label_is_skipped_and_counted(folder: Path) -> None:
    with Path("data/train.jsonl").open("a") as file:
        file.write('{"id": "odd", "image": "train-red.png", "caption": "all is red", "label": "-"}\n')
    assert main([*train("run"), "--training.steps=4"]) == 0
    assert json.loads(Path("run/bad-records-counts.json").read_text())["broken"] == 1
    assert "label: expected one of" in Path("run/bad-records.jsonl").read_text()


def test_its_recipes_are_valid_and_a_missing_head_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = ("--plugin", str(MODULE))
    for recipe in ("emoji", "files"):
        assert main(["recipes", "validate", f"recipes/{recipe}.yaml", *plugin]) == 0
    keys = ("--model.heads.extra.entailment", "null")
    assert main(["recipes", "validate", "recipes/files.yaml", *plugin, *keys]) == 2
    assert "model.heads.extra: missing: entailment, an EntailmentHead" in capsys.readouterr().err


def test_the_commands_of_its_readme_that_check_pass(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = ("--plugin", str(MODULE))
    assert main(["data", "check", "recipes/files.yaml", *plugin]) == 0
    heads = "{extra: {entailment: EntailmentHead}}"
    assert main(["plugins", "check", str(MODULE), "--records", "data/test.jsonl", "--heads", heads]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(" passed, 0 failed")
    readme = (PLUGIN / "README.md").read_text(encoding="utf-8")
    assert f"x2kit plugins check x2kit_entailment --records data/test.jsonl --heads '{heads}'" in readme


def test_its_own_tests_pass() -> None:
    options = ("-q", "-p", "no:cacheprovider", "--rootdir", PLUGIN, "tests")
    environment = {**os.environ, "PYTHONPATH": str(PLUGIN), "OMP_NUM_THREADS": "1"}
    done = Program(*options, module="pytest", cwd=PLUGIN, environment=environment).wait()
    assert done.returncode == 0, done.stdout


def test_it_is_short() -> None:
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in MODULE.glob("*.py"))
    assert lines <= MOST_LINES


def test_the_page_shows_its_files_as_they_are() -> None:
    shown = {block.title: block.text for block in blocks(PAGE) if block.title}
    for path in ("x2kit_entailment/__init__.py", "x2kit_entailment/task.py", "recipes/emoji.yaml"):
        assert shown[path] == (PLUGIN / path).read_text(encoding="utf-8")

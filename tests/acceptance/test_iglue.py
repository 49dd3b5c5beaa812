"""One command trains and measures the five tasks of IGLUE on small files in the published formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from x2kit.cli import main

from . import iglue_files

SMALL = """
model:
  vision: {init_args: {image_size: 32, patch_size: 16, width: 16, depth: 1, heads: 2}}
  text: {init_args: {layers: 1, width: 16, heads: 2, max_length: 96, vocab_size: null, tokenizer: {vocab_size: 60}}}
  fusion: {init_args: {layers: 1, heads: 2}}
data: {num_workers: 0}
training: {steps: 1, accumulation: 1, device: cpu, threads: 1, log_every: 1}
evaluation: {every: 1}
"""
STREAMS = {
    "xgqa": "questions",
    "xvnli": "hypotheses",
    "marvl": "pairs",
    "xflickrco": "images",
    "wit": "images",
}

LANGUAGES = {"xgqa": 8, "xvnli": 5, "marvl": 6, "xflickrco": 8, "wit": 11}
"""Languages of each task, English included."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("iglue")


@pytest.fixture(autouse=True)
def _here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "160")


def overlays() -> list[str]:
    """Options that make every model, batch and run small."""
    Path("small.yaml").write_text(SMALL)
    found = ["--config", "small.yaml"]
    for task, stream in STREAMS.items():
        heads = "model: {heads: {decoder_layers: 1}}\n" if task == "xgqa" else ""
        Path(f"{task}.yaml").write_text(f"{heads}data: {{streams: {{{stream}: {{batch_size: 2}}}}}}\n")
        found += ["--config", f"{task}={task}.yaml"]
    return found


def table(setting: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"runs/iglue-{setting}.json").read_text())
    return found


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """The runs of the zero-shot table, from weights of one model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        iglue_files.write_all()
        options = overlays()
        start = [
            "train",
            "finetune/retrieval-xflickrco",
            "--run-dir",
            "start",
            "--data.streams.images.batch_size=2",
        ]
        assert main([*start, "--config", "small.yaml"]) == 0
        assert main(["iglue", "runs", "--from", "start", *options]) == 0
    return folder / "runs"


def test_five_tasks_are_measured_in_all_their_languages(trained: Path) -> None:
    found = table("zero-shot")
    languages = {task: set(next(iter(row["scores"].values()))) for task, row in found["tasks"].items()}
    assert {task: len(codes) for task, codes in languages.items()} == LANGUAGES
    assert found["tasks"]["xvnli"]["rows"] == dict.fromkeys(iglue_files.XVNLI, 3)  # one of four has no label
    assert found["tasks"]["xflickrco"]["rows"]["de"] == 5  # one of six sentences is empty
    assert set(found["tasks"]["wit"]["scores"]) == {"images", "texts"}
    assert "XVNLI, en: 3 rows, the published test set has 1150" in found["warnings"]


def test_what_is_trained_and_measured_is_kept(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {
        file: file.stat().st_mtime_ns for file in trained.rglob("*") if file.name != "iglue-zero-shot.json"
    }
    assert main(["iglue", "runs"]) == 0
    after = {
        file: file.stat().st_mtime_ns for file in trained.rglob("*") if file.name != "iglue-zero-shot.json"
    }
    assert after == before
    out = capsys.readouterr().out
    assert "mean without en" in out
    assert "x2kit train" not in out


def test_translated_tests_are_read(trained: Path) -> None:
    assert main(["iglue", "runs", "--translated"]) == 0
    assert {task: len(row["rows"]) for task, row in table("translate-test")["tasks"].items()} == LANGUAGES
    result = json.loads(Path("runs/xvnli/iglue-translate-test.json").read_text())
    files = result["data"]["source"]["init_args"]["files"]
    assert files["fr"][0].endswith("annotations_machine-translate/fr/{split}.jsonl")
    assert files["en"][0].endswith("annotations/en/{split}.jsonl")


@pytest.mark.parametrize("protocol", ["cclm", "iglue"])
def test_few_shot_continues_in_each_language(trained: Path, protocol: str) -> None:
    assert main(["iglue", "runs", "--few-shot", protocol, "--languages", "zh", "fr", *overlays()]) == 0
    found = table(f"few-shot-{protocol}")
    assert {task: set(row["rows"]) for task, row in found["tasks"].items()} == {
        "xgqa": {"zh"},
        "xvnli": {"fr"},
        "marvl": {"zh"},
        "xflickrco": {"zh"},
    }
    selection = json.loads(Path(f"runs/few-shot-{protocol}/xgqa-zh/weights/selection.json").read_text())
    assert selection["split"] == ("zh/test" if protocol == "cclm" else "zh/dev")


def test_given_weights_take_the_place_of_a_run(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--weights", "xflickrco=start", "--tasks", "xflickrco", "xvnli"]
    assert main(["iglue", "other", *given]) == 0
    assert "XVNLI: no run in other/xvnli, so it is left out" in capsys.readouterr().out
    found = json.loads(Path("other/iglue-zero-shot.json").read_text())
    assert set(found["tasks"]) == {"xflickrco"}


def test_a_result_of_other_weights_is_measured_again(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = ["--weights", "xflickrco=start", "--tasks", "xflickrco"]
    assert main(["iglue", "again", *weights]) == 0
    file = Path("again/xflickrco/iglue-zero-shot.json")
    result = json.loads(file.read_text())
    file.write_text(json.dumps({**result, "checkpoint": {**result["checkpoint"], "sha256": "of others"}}))
    capsys.readouterr()
    for expected in (True, False):
        assert main(["iglue", "again", *weights]) == 0
        assert ("x2kit evaluate start" in capsys.readouterr().out) == expected


def test_an_empty_directory_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["iglue", "nothing"]) == 2
    assert "no task has weights; give pretrained weights with --from" in capsys.readouterr().err
    assert main(["iglue", "runs", "--weights", "gqa=start"]) == 2
    assert "--weights: expected TASK=MODEL with TASK one of xgqa, xvnli" in capsys.readouterr().err

"""Weights & Biases, offline: its own library writes, and its own reader tells what was written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from x2kit_reporters import WeightsAndBiases, x2kit_evaluation_done

from x2kit.errors import SettingError
from x2kit.plugin import RunFacts

BLOCK = 32768
OFFLINE = WeightsAndBiases(mode="offline", project="tests", tags=("small",))


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.slow
@pytest.mark.conformance(OFFLINE)
def test_it_keeps_the_contract(conformance: Any) -> None:
    conformance()


def records(file: Path) -> Iterator[Any]:
    """What a .wandb file holds: LevelDB's log, blocks of 32 KiB with records that may go over several of them."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, whole = file.read_bytes(), 7, b""
    while place + 7 < len(data):
        left = BLOCK - place % BLOCK
        if left < 7:
            place += left
            continue
        length, part = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if part in (1, 4):  # the whole record, or its last part
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def history(file: Path) -> list[dict[str, float]]:
    """The logged lines, without what wandb adds."""
    lines = []
    for record in records(file):
        if record.HasField("history"):
            items = {(item.key or "/".join(item.nested_key)): item.value_json for item in record.history.item}
            lines.append({key: json.loads(value) for key, value in items.items() if not key.startswith("_")})
    return lines


def report(run: Path, folder: Path, steps: range) -> None:
    reporter = OFFLINE.build()
    reporter.start(RunFacts(run, {"training": {"steps": 9, "lr": 0.5}}, steps.start - 1, 9), folder)
    for step in steps:
        reporter.log(step, {"loss": 1 / step, "images.itc": 2.0})
    reporter.end("stopped")


@pytest.mark.slow
def test_a_run_that_goes_on_is_the_same_run_there(tmp_path: Path) -> None:
    run, folder = tmp_path / "first", tmp_path / "first" / "reporters" / "wandb"
    folder.mkdir(parents=True)
    report(run, folder, range(1, 4))
    report(run, folder, range(3, 5))
    files = sorted(folder.rglob("*.wandb"), key=lambda file: file.stat().st_mtime)
    begun = [record.run for file in files for record in records(file) if record.HasField("run")]
    name = (folder / "run-id.txt").read_text()
    assert {(one.run_id, one.project, one.display_name, tuple(one.tags)) for one in begun} == {
        (name, "tests", "first", ("small",))
    }
    config = {item.key: item.value_json for one in begun for item in one.config.update}
    assert json.loads(config["training"]) == {"steps": 9, "lr": 0.5}
    logged = [line for file in files for line in history(file)]
    assert logged == [{"step": step, "loss": 1 / step, "images/itc": 2.0} for step in (1, 2, 3, 3, 4)]


@pytest.mark.slow
def test_what_is_measured_comes_to_the_run_that_was_reported(tmp_path: Path) -> None:
    folder = tmp_path / "first" / "reporters" / "wandb"
    folder.mkdir(parents=True)
    report(tmp_path / "first", folder, range(1, 2))
    before = set(folder.rglob("*.wandb"))
    chosen = {"class_path": "WeightsAndBiases", "init_args": OFFLINE.model_dump(mode="json")}
    recipe = {"training": {"reporters": {"wandb": chosen}}}
    x2kit_evaluation_done(tmp_path / "first", recipe, {"split": "test", "languages": {"de": {"r1": 50.0}}})
    (file,) = set(folder.rglob("*.wandb")) - before
    found: dict[str, str] = {}
    for record in records(file):
        for item in record.summary.update if record.HasField("summary") else ():
            found["/".join(item.nested_key) or item.key] = item.value_json
    assert json.loads(found["evaluation/test/languages/de/r1"]) == 50.0
    begun = [record.run.run_id for record in records(file) if record.HasField("run")]
    assert set(begun) == {(folder / "run-id.txt").read_text()}


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("x2kit_reporters.config.find_spec", lambda name: None)
    for ask in (OFFLINE.check, OFFLINE.build):
        with pytest.raises(
            SettingError, match=r'wandb, which is not installed: pip install "x2kit\[wandb\]"'
        ):
            ask()

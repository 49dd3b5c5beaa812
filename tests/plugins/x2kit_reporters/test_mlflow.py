"""MLflow, in a SQLite file: what it is told can be read back with its own client."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from x2kit_reporters import MLflow

from x2kit.errors import SettingError
from x2kit.plugin import RunFacts


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One for all, for making its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)


FOLDER = TemporaryDirectory()
"""Of this process, as marks are read before there are fixtures."""
RECIPE = {
    "description": "ä" * 7000,
    "model": {"vision": {"class_path": "BeitV2", "init_args": {"pretrained": None}}},
    "data": {"streams": {"große bilder": {"languages": ["en", "de"], "losses": {}}}},
    **{f"key{number}": number for number in range(150)},
}


def report(config: MLflow, folder: Path, steps: range, status: Any) -> None:
    reporter = config.build()
    reporter.start(RunFacts(folder.parents[1], RECIPE, steps.start - 1, 9), folder)
    for step in steps:
        reporter.log(step, {"loss": 1 / step, "images.itc": 2.0})
    reporter.end(status)


@pytest.mark.slow
def test_a_run_that_goes_on_is_the_same_run_there(database: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    folder = tmp_path / "first" / "reporters" / "mlflow"
    folder.mkdir(parents=True)
    config = MLflow(tracking_uri=database, experiment="tests", tags={"who": "me"})
    report(config, folder, range(1, 4), "stopped")
    client = MlflowClient(tracking_uri=database)
    experiment = client.get_experiment_by_name("tests")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    report(config, folder, range(3, 5), "finished")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name, run.info.run_id) == (
        "FINISHED",
        "first",
        (folder / "run-id.txt").read_text(),
    )
    assert run.data.tags["x2kit.run"] == str(tmp_path / "first")
    assert run.data.tags["who"] == "me"
    parameters = run.data.params
    assert len(parameters) == 155
    assert parameters["description"] == "ä" * 6000
    assert parameters["model.vision.init_args.pretrained"] == "null"
    assert parameters["data.streams.gro_e bilder.languages"] == '["en", "de"]'
    found = client.get_metric_history(run.info.run_id, "loss")
    assert sorted({(entry.step, entry.value) for entry in found}) == [(s, 1 / s) for s in (1, 2, 3, 4)]
    assert run.data.metrics == {"loss": 1 / 4, "images/itc": 2.0}


@pytest.mark.slow
def test_without_a_server_it_is_a_file_in_the_run_directory(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "reporters" / "mine"
    folder.mkdir(parents=True)
    report(MLflow(), folder, range(1, 2), "failed")
    assert (folder / "mlflow.db").is_file()


@pytest.mark.slow
@pytest.mark.conformance(MLflow(tracking_uri=f"sqlite:///{FOLDER.name}/mlflow.db"))
def test_it_keeps_the_contract(conformance: Any) -> None:
    conformance()


@pytest.mark.parametrize("absent", ["mlflow", "sqlalchemy"])
def test_without_the_libraries_the_extra_is_named(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("x2kit_reporters.config.find_spec", lambda name: None if name == absent else object())
    with pytest.raises(
        SettingError, match=rf'{absent}, which is not installed: pip install "x2kit\[mlflow\]"'
    ):
        MLflow().check()


def test_a_server_needs_no_database_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "x2kit_reporters.config.find_spec", lambda name: None if name == "sqlalchemy" else object()
    )
    MLflow(tracking_uri="http://host:5000").check()


RESULT = {
    "split": "test",
    "seconds": 3.5,
    "model": {"parameters": 7},
    "languages": {"zh-Hant": {"image_to_text": {"r1": 50.0}, "zero_shot": True}},
    "warnings": ["few queries"],
}


@pytest.mark.slow
def test_what_is_measured_comes_to_the_run_that_was_reported(database: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient
    from x2kit_reporters import x2kit_evaluation_done

    folder = tmp_path / "second" / "reporters" / "mine"
    folder.mkdir(parents=True)
    settings = {"tracking_uri": database, "experiment": "measured"}
    report(MLflow.model_validate(settings), folder, range(1, 2), "finished")
    chosen = {"class_path": "MLflow", "init_args": settings}
    other = {"class_path": "Other", "init_args": {}}
    recipe = {"training": {"reporters": {"mine": chosen, "late": chosen, "other": other}}}
    x2kit_evaluation_done(tmp_path / "second", recipe, RESULT)
    run = MlflowClient(tracking_uri=database).get_run((folder / "run-id.txt").read_text())
    assert run.data.metrics == {
        "loss": 1.0,
        "images/itc": 2.0,
        "evaluation/test/languages/zh-Hant/image_to_text/r1": 50.0,
    }
    assert run.info.status == "FINISHED"

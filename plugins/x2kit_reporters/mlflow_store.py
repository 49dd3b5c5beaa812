"""MLflow: one run of theirs for one run of ours, however often it goes on. Imports mlflow."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from x2kit.plugin import RunFacts, RunStatus
from x2kit_reporters import RUN_ID, MLflow
from x2kit_reporters.behind import Behind

STATUS: dict[RunStatus, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
LONGEST, AT_ONCE = 6000, 100
"""MLflow's limits: letters of a parameter's value, and parameters of one call."""


class MLflowReporter:
    """Talks to a server or a database by a client of its own, so that runs of the user's own code are not touched."""

    def __init__(self, settings: MLflow) -> None:
        self._settings = settings
        self._client: Any = None
        self._id = ""
        self._behind = Behind()

    def start(self, run: RunFacts, folder: Path) -> None:
        """The run of the id in the folder goes on; where there is none, a new one begins."""
        self._connect(folder)
        known = folder / RUN_ID
        if known.exists():
            self._id = known.read_text(encoding="utf-8").strip()
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._id = self._new_run(run)
            known.write_text(self._id, encoding="utf-8")

    def add(self, run: RunFacts, folder: Path, values: Mapping[str, float]) -> None:
        """Put numbers beside those of a run that has ended."""
        self._connect(folder)
        now = int(time.time() * 1000)
        metrics = [Metric(_name(name), value, now, 0) for name, value in values.items()]
        self._client.log_batch((folder / RUN_ID).read_text(encoding="utf-8").strip(), metrics=metrics)

    def _connect(self, folder: Path) -> None:
        uri = self._settings.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        self._client = MlflowClient(tracking_uri=uri or f"sqlite:///{folder.resolve() / 'mlflow.db'}")

    def _new_run(self, run: RunFacts) -> str:
        experiment = self._client.get_experiment_by_name(self._settings.experiment)
        number = (
            self._client.create_experiment(self._settings.experiment)
            if experiment is None
            else experiment.experiment_id
        )
        name = self._settings.name or run.directory.name
        found: str = self._client.create_run(number, run_name=name).info.run_id
        tags = {"x2kit.run": str(run.directory), **self._settings.tags}
        self._client.log_batch(found, tags=[RunTag(key, value) for key, value in tags.items()])
        # Parameters never change, so they are those of the first start; recipe.yaml in the run directory is newer.
        values = iter(flat(run.recipe))
        while some := [Param(key, value[:LONGEST]) for key, value in islice(values, AT_ONCE)]:
            self._client.log_batch(found, params=some)
        return found

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One call for all values; streams become sections, as MLflow takes what stands before a slash for one."""
        now = int(time.time() * 1000)
        metrics = [
            Metric(name.replace(".", "/", 1), float(value), now, step) for name, value in values.items()
        ]
        # A server that does not answer is asked again for minutes.
        self._behind.call(partial(self._client.log_batch, self._id, metrics=metrics))

    def end(self, status: RunStatus) -> None:
        """A run that was asked to stop is KILLED until it goes on."""
        try:
            self._behind.call(partial(self._client.set_terminated, self._id, STATUS[status]))
        finally:
            self._behind.close()


def flat(recipe: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Keys with dots, and their values as texts."""
    for name, value in recipe.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{key}.")
        else:
            yield _name(key), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _name(key: str) -> str:
    """MLflow takes letters, digits and a few signs in names."""
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in "_-./ ") else "_" for sign in key)

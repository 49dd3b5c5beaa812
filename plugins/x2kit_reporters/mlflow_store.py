"""Report to MLflow; a run keeps one MLflow run however often it is resumed. Imports mlflow."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from x2kit.plugin import RunFacts, RunStatus
from x2kit_reporters.reporting import BackgroundCalls, read_run_id, write_run_id

if TYPE_CHECKING:
    from x2kit_reporters.config import MLflow

STATUS: dict[RunStatus, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
MAX_LENGTH, BATCH_SIZE = 6000, 100
"""MLflow's limits: characters of a parameter's value, and parameters of one call."""


class MLflowReporter:
    """Reporter with its own MLflow client, independent of runs of the user's code."""

    def __init__(self, settings: MLflow) -> None:
        self._settings = settings
        self._client: Any = None
        self._id = ""
        self._calls = BackgroundCalls()

    def start(self, run: RunFacts, folder: Path) -> None:
        """Resume the run whose id is in the folder, or create one."""
        self._connect(folder)
        known = read_run_id(folder)
        self._id = known or self._create_run(run)
        if known:
            self._client.update_run(known, status="RUNNING")
        write_run_id(folder, self._id)

    def add(self, run: RunFacts, folder: Path, values: Mapping[str, float]) -> None:
        """Add numbers to a run that has ended."""
        self._connect(folder)
        now = int(time.time() * 1000)
        metrics = [Metric(_name(name), value, now, 0) for name, value in values.items()]
        self._client.log_batch(read_run_id(folder), metrics=metrics)

    def _connect(self, folder: Path) -> None:
        uri = self._settings.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        self._client = MlflowClient(tracking_uri=uri or f"sqlite:///{folder.resolve() / 'mlflow.db'}")

    def _create_run(self, run: RunFacts) -> str:
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
        # MLflow's parameters cannot change: they are those of the first start; recipe.yaml has the current ones.
        values = iter(flatten(run.recipe))
        while some := [Param(key, value[:MAX_LENGTH]) for key, value in islice(values, BATCH_SIZE)]:
            self._client.log_batch(found, params=some)
        return found

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log all values in one call; MLflow groups them by the part before a slash, the stream."""
        now = int(time.time() * 1000)
        metrics = [
            Metric(name.replace(".", "/", 1), float(value), now, step) for name, value in values.items()
        ]
        # The client retries for minutes if a server does not answer.
        self._calls.call(partial(self._client.log_batch, self._id, metrics=metrics))

    def end(self, status: RunStatus) -> None:
        """Set the final status; a stopped run is KILLED until it is resumed."""
        try:
            self._calls.call(partial(self._client.set_terminated, self._id, STATUS[status]))
        finally:
            self._calls.close()


def flatten(recipe: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Flatten a recipe to dotted keys and values as text."""
    for name, value in recipe.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{key}.")
        else:
            yield _name(key), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _name(key: str) -> str:
    """Replace characters that MLflow does not allow in names by _."""
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in "_-./ ") else "_" for sign in key)

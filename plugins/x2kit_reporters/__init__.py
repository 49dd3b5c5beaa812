"""Report runs to TensorBoard, Weights & Biases and MLflow. Imports none of them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from x2kit.plugin import Registry, ReporterConfig, RunFacts, SettingError, hookimpl

if TYPE_CHECKING:
    from x2kit.plugin import Reporter

RUN_ID = "run-id.txt"
"""In a reporter's folder: what the run is called there, for when it goes on or is measured."""


class WeightsAndBiases(ReporterConfig):
    """The numbers of a run, and its recipe, in Weights & Biases (extra `wandb`).

    A run that goes on keeps its id, and so its curves. What you are logged in with is wandb's affair: `wandb login`, or
    its environment variables.
    """

    project: str = Field("x2kit", min_length=1, description="the project; made if there is none")
    entity: str | None = Field(None, description="user or team that owns the project; null for your default")
    name: str | None = Field(None, description="of the run; null for the name of the run directory")
    group: str | None = Field(None, description="runs of one group are shown together")
    tags: tuple[str, ...] = Field((), description="words to find the run by")
    mode: Literal["online", "offline"] = Field(
        "online",
        description="offline needs no network and no account: the run is kept in its folder of the run directory, from "
        "where `wandb sync` brings it to the server",
    )

    def check(self) -> None:
        """Raises SettingError if wandb is not installed."""
        _require("wandb", "wandb")

    def build(self) -> Reporter:
        """The reporter of one run. Raises SettingError if wandb is not installed."""
        self.check()
        from x2kit_reporters.weights_and_biases import WandbReporter

        return WandbReporter(self)


class MLflow(ReporterConfig):
    """The numbers of a run, and its recipe as parameters, in MLflow (extra `mlflow`).

    A run that goes on keeps its id. Without a server the runs are in a SQLite file, which `mlflow ui` shows.
    """

    tracking_uri: str | None = Field(
        None,
        description="the server, such as http://host:5000, or a database such as sqlite:////home/me/mlflow.db; null "
        "asks MLFLOW_TRACKING_URI, and without that takes mlflow.db in the reporter's folder of the run directory",
    )
    experiment: str = Field("x2kit", min_length=1, description="the experiment; made if there is none")
    name: str | None = Field(None, description="of the run; null for the name of the run directory")
    tags: dict[str, str] = Field({}, description="tags of the run by name")

    def check(self) -> None:
        """Raises SettingError if MLflow is not installed, or what its databases need."""
        _require("mlflow", "mlflow")
        if self.tracking_uri is None or not self.tracking_uri.startswith("http"):
            _require("sqlalchemy", "mlflow")

    def build(self) -> Reporter:
        """The reporter of one run. Raises SettingError if MLflow is not installed."""
        self.check()
        from x2kit_reporters.mlflow_store import MLflowReporter

        return MLflowReporter(self)


class TensorBoard(ReporterConfig):
    """Write the metrics of a run as TensorBoard event files (extra `tensorboard`).

    The files are in the reporter's folder of the run directory: `tensorboard --logdir RUN` finds them. After a resume
    every step is shown once.
    """

    def check(self) -> None:
        """Raises SettingError if tensorboard is not installed."""
        _require("tensorboard", "tensorboard")

    def build(self) -> Reporter:
        """The reporter of one run. Raises SettingError if tensorboard is not installed."""
        self.check()
        from x2kit_reporters.tensorboard_events import TensorBoardReporter

        return TensorBoardReporter()


def _require(module: str, extra: str) -> None:
    if find_spec(module) is None:
        raise SettingError(
            "class_path", f'it needs {module}, which is not installed; pip install "x2kit[{extra}]"'
        )


@hookimpl
def x2kit_evaluation_done(directory: Path, recipe: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """What was measured goes to where the run was reported."""
    for name, chosen in recipe["training"]["reporters"].items():
        folder = directory / "reporters" / name
        known = {"WeightsAndBiases": WeightsAndBiases, "MLflow": MLflow}.get(chosen["class_path"])
        if known is None or not (folder / RUN_ID).exists():
            continue
        from x2kit_reporters.measured import numbers

        reporter: Any = known.model_validate(chosen["init_args"]).build()
        reporter.add(RunFacts(directory, recipe, 0, 0), folder, numbers(result))


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Add the reporters."""
    registry.add(TensorBoard)
    registry.add(WeightsAndBiases)
    registry.add(MLflow)

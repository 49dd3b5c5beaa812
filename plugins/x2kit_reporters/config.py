"""Settings of the reporters. Imports neither wandb nor mlflow."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from x2kit.plugin import ReporterConfig, SettingError

if TYPE_CHECKING:
    from x2kit.plugin import Reporter


class WeightsAndBiases(ReporterConfig):
    """Report the metrics of a run and its recipe to Weights & Biases (extra `wandb`).

    A resumed run keeps its id and its curves. Credentials are wandb's own: `wandb login` or its environment variables.
    """

    project: str = Field("x2kit", min_length=1, description="project; created if it does not exist")
    entity: str | None = Field(None, description="user or team that owns the project; null for your default")
    name: str | None = Field(None, description="name of the run; null for that of the run directory")
    group: str | None = Field(None, description="group of runs that are shown together")
    tags: tuple[str, ...] = Field((), description="tags of the run")
    mode: Literal["online", "offline"] = Field(
        "online",
        description="offline needs no network and no account: the run is stored in the reporter's folder of the run "
        "directory, and `wandb sync` uploads it",
    )

    def check(self) -> None:
        """Raise SettingError if wandb is not installed."""
        _require("wandb", "wandb")

    def build(self) -> Reporter:
        """Build the reporter of one run. Raises SettingError if wandb is not installed."""
        self.check()
        from x2kit_reporters.weights_and_biases import WandbReporter

        return WandbReporter(self)


class MLflow(ReporterConfig):
    """Report the metrics of a run, and its recipe as parameters, to MLflow (extra `mlflow`).

    A resumed run keeps its id. Without a server, runs are stored in a SQLite file, which `mlflow ui` shows.
    """

    tracking_uri: str | None = Field(
        None,
        description="server, such as http://host:5000, or database, such as sqlite:////home/me/mlflow.db; null for "
        "MLFLOW_TRACKING_URI or, if that is not set, mlflow.db in the reporter's folder of the run directory",
    )
    experiment: str = Field("x2kit", min_length=1, description="experiment; created if it does not exist")
    name: str | None = Field(None, description="name of the run; null for that of the run directory")
    tags: dict[str, str] = Field({}, description="tags of the run by name")

    def check(self) -> None:
        """Raise SettingError if MLflow, or what its databases need, is not installed."""
        _require("mlflow", "mlflow")
        if self.tracking_uri is None or not self.tracking_uri.startswith("http"):
            _require("sqlalchemy", "mlflow")

    def build(self) -> Reporter:
        """Build the reporter of one run. Raises SettingError if MLflow is not installed."""
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
            "class_path", f'needs {module}, which is not installed: pip install "x2kit[{extra}]"'
        )

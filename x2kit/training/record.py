"""What a run leaves to read: the resolved recipe, versions, metrics.jsonl, TensorBoard events. Imports torch."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from x2kit.model.run_files import METRICS, RECIPE, TENSORBOARD, VERSIONS, read_metrics

PACKAGES = (
    "x2kit",
    "torch",
    "torchvision",
    "transformers",
    "timm",
    "open-clip-torch",
    "sentencepiece",
    "numpy",
)


class RunRecord:
    """Writes a run's metrics as they come. A resumed run goes on where its checkpoint was.

    Args:
        run: the run directory, made if missing.
        recipe: the resolved recipe as YAML.
        facts: what else is worth keeping: seed, plugins, fingerprints of the data.
        steps_done: lines of later steps are dropped; they are about to be written again.
    """

    def __init__(self, run: Path, recipe: str, facts: dict[str, Any], steps_done: int) -> None:
        self._run = run
        run.mkdir(parents=True, exist_ok=True)
        _write(run / RECIPE, recipe)
        _write(run / VERSIONS, json.dumps({**versions(), **facts}, indent=2) + "\n")
        kept = [line for line in read_metrics(run) if line["step"] <= steps_done]
        _write(run / METRICS, "".join(json.dumps(line) + "\n" for line in kept))
        self._metrics = (run / METRICS).open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run / TENSORBOARD), purge_step=steps_done)

    def keep(self, file: str, content: dict[str, Any]) -> None:
        """A JSON file beside the metrics."""
        _write(self._run / file, json.dumps(content, indent=1) + "\n")

    def write(self, step: int, values: dict[str, float]) -> None:
        """One line of metrics after so many steps."""
        self._metrics.write(json.dumps({"step": step, **values}) + "\n")
        self._metrics.flush()
        for name, value in values.items():
            self._board.add_scalar(name.replace(".", "/", 1), value, step)

    def close(self) -> None:
        """Flush what is still held back."""
        self._metrics.close()
        self._board.close()


def versions() -> dict[str, Any]:
    """Python, packages, machine and threads that the run uses."""

    def of(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    return {
        "python": sys.version.split()[0],
        "packages": {package: of(package) for package in PACKAGES},
        "machine": platform.platform(),
        "threads": torch.get_num_threads(),
    }


def _write(file: Path, text: str) -> None:
    beside = file.with_name(f".{file.name}.partial")
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)

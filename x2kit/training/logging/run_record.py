"""What a run leaves to read: the resolved recipe, versions, metrics.jsonl, TensorBoard events. Imports torch."""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from x2kit.io.atomic import atomic_file, make_folder, storage_errors
from x2kit.io.run_directory import METRICS, RECIPE, TENSORBOARD, VERSIONS, read_metrics
from x2kit.model.saved_recipe import MANIFEST, write_recipe

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
        recipe: the resolved recipe as YAML, file plugins by absolute paths; they are copied into the run.
        facts: what else is worth keeping: seed, plugins, fingerprints of the data.
        steps_done: lines of later steps are dropped; they are about to be written again.
    """

    def __init__(self, run: Path, recipe: str, facts: dict[str, Any], steps_done: int) -> None:
        self._run = run
        make_folder(run)
        before = _recipe_and_manifest(run)
        self.recipe = write_recipe(recipe, run)
        """The recipe with absolute paths of the copied plugins, which do not change while the run goes on."""
        if steps_done:
            _keep_older(run, before, steps_done)
        _write(run / VERSIONS, json.dumps({**versions(), **facts}, indent=2) + "\n")
        kept = [line for line in read_metrics(run) if line["step"] <= steps_done]
        _write(run / METRICS, "".join(json.dumps(line) + "\n" for line in kept))
        self.newest: dict[str, float] = kept[-1] if kept else {}
        self._metrics = (run / METRICS).open("a", encoding="utf-8")
        self._hook_before, threading.excepthook = threading.excepthook, self._thread_failed
        # TensorBoard forgets what earlier files say of this step and of later ones.
        self._board = SummaryWriter(str(run / TENSORBOARD), purge_step=steps_done + 1)

    def keep(self, file: str, content: dict[str, Any]) -> None:
        """A JSON file beside the metrics."""
        _write(self._run / file, json.dumps(content, indent=1) + "\n")

    def write(self, step: int, values: dict[str, float]) -> None:
        """One line of metrics after so many steps. Raises StorageError if the disk takes no more."""
        self.newest = {"step": step, **values}
        with storage_errors(self._run / METRICS):
            self._metrics.write(json.dumps(self.newest) + "\n")
            self._metrics.flush()
        with storage_errors(self._run / TENSORBOARD):
            for name, value in values.items():
                self._board.add_scalar(name.replace(".", "/", 1), value, step)

    def sync(self) -> None:
        """What was written is on the disk: a run that goes on from a checkpoint finds every line before it."""
        with storage_errors(self._run / METRICS):
            self._metrics.flush()
            os.fsync(self._metrics.fileno())
        with storage_errors(self._run / TENSORBOARD):
            self._board.flush()

    def close(self) -> None:
        """Flush what is still held back. Raises StorageError if the disk takes no more."""
        try:
            with storage_errors(self._run / METRICS):
                self._metrics.close()
            with storage_errors(self._run / TENSORBOARD):
                self._board.close()
        finally:
            threading.excepthook = self._hook_before

    def _thread_failed(self, arguments: threading.ExceptHookArgs) -> None:
        """What TensorBoard's thread met on a disk, its writer raises at the next flush: no traceback beside that."""
        of_board = type(arguments.thread).__module__.startswith("tensorboard.")
        if not (of_board and isinstance(arguments.exc_value, OSError)):
            self._hook_before(arguments)


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


def _recipe_and_manifest(run: Path) -> dict[Path, str]:
    return {
        file: file.read_text(encoding="utf-8") for file in (run / RECIPE, run / MANIFEST) if file.exists()
    }


def _keep_older(run: Path, before: Mapping[Path, str], steps_done: int) -> None:
    """Keep what changed since the steps that are done, as recipe.until-step-0000400.yaml; hashes of plugins too."""
    after = _recipe_and_manifest(run)
    for file, text in before.items():
        if after[file] != text:
            _write(file.with_stem(f"{file.stem}.until-step-{steps_done:07d}"), text)


def _write(file: Path, text: str) -> None:
    with atomic_file(file) as beside:
        beside.write_text(text, encoding="utf-8")

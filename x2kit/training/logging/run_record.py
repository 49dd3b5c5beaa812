"""Write a run's recipe, versions and metrics to its directory. Imports torch."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from x2kit.io.atomic import atomic_file, make_folder, storage_errors
from x2kit.io.identity import own_version
from x2kit.io.run_directory import METRICS, RECIPE, VERSIONS, read_metrics
from x2kit.model.config import ModelConfig
from x2kit.model.saved_recipe import MANIFEST, write_recipe

if TYPE_CHECKING:
    from x2kit.plugin.loading.manager import Plugins
    from x2kit.training.stepper import Recipe

PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "timm",
    "open-clip-torch",
    "sentencepiece",
    "numpy",
)


class RunRecord:
    """Write the record of a run, and its metrics line by line; resumes from a checkpoint's step.

    Args:
        run: the run directory, created if missing.
        recipe: resolved, as YAML, with absolute paths of file plugins; these are copied into the run.
        facts: added to versions.json: seed, plugins, fingerprints of the data.
        steps_done: metrics of later steps are dropped, since those steps run again.
    """

    def __init__(self, run: Path, recipe: str, facts: dict[str, Any], steps_done: int) -> None:
        self._run = run
        make_folder(run)
        before = _recipe_and_manifest(run)
        self.recipe = write_recipe(recipe, run)
        """The recipe with absolute paths of the copied plugins, which do not change during the run."""
        if steps_done:
            _archive_changed(run, before, steps_done)
        self.keep(VERSIONS, {**versions(), **facts}, indent=2)
        kept = [line for line in read_metrics(run) if line["step"] <= steps_done]
        _write(run / METRICS, "".join(json.dumps(line) + "\n" for line in kept))
        self.newest: dict[str, float] = kept[-1] if kept else {}
        self._metrics = (run / METRICS).open("a", encoding="utf-8")

    def keep(self, file: str, content: dict[str, Any], indent: int = 1) -> None:
        """Write a JSON file to the run directory."""
        _write(self._run / file, json.dumps(content, indent=indent) + "\n")

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append a line of metrics. Raises StorageError if the disk is full."""
        self.newest = {"step": step, **values}
        with storage_errors(self._run / METRICS):
            self._metrics.write(json.dumps(self.newest) + "\n")
            self._metrics.flush()

    def sync(self) -> None:
        """Sync metrics to disk, so that a run resumed from a checkpoint finds every earlier line."""
        with storage_errors(self._run / METRICS):
            self._metrics.flush()
            os.fsync(self._metrics.fileno())

    def close(self) -> None:
        """Flush and close the metrics. Raises StorageError if the disk is full."""
        with storage_errors(self._run / METRICS):
            self._metrics.close()


def versions() -> dict[str, Any]:
    """Return the versions of Python and packages, the machine and the number of threads."""

    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    return {
        "python": sys.version.split()[0],
        "packages": {"x2kit": own_version(), **{package: installed(package) for package in PACKAGES}},
        "machine": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """Return the name of the CPU model: from /proc/cpuinfo on Linux, as `platform` knows none there."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def hardware(device: torch.device, processes: int) -> dict[str, Any]:
    """Return the device of this rank, for a GPU the name of its model, and the number of ranks."""
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {"device": str(device), "accelerator": accelerator, "processes": processes}


def recorded_facts(recipe: Recipe, plugins: Plugins, data: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the facts of a run's start; `data` are those of its data."""
    return {
        "seed": recipe.training.seed,
        "plugins": [f"{s.name} ({s.distribution})" for s in plugins.states if s.status == "active"],
        **data,
        "published": published_weights(recipe.model),
    }


def published_weights(model: ModelConfig) -> dict[str, Any]:
    """Describe the published weights of each encoder at this time, since caches and folders change later."""
    parts = {"vision": model.vision, "text": model.text, "fusion": model.fusion}
    found = {name: part.published() for name, part in parts.items()}
    return {name: origin._asdict() for name, origin in found.items() if origin is not None}


def _recipe_and_manifest(run: Path) -> dict[Path, str]:
    return {
        file: file.read_text(encoding="utf-8") for file in (run / RECIPE, run / MANIFEST) if file.exists()
    }


def _archive_changed(run: Path, before: Mapping[Path, str], steps_done: int) -> None:
    """Keep the previous recipe and plugin manifest if changed, as recipe.until-step-0000400.yaml."""
    after = _recipe_and_manifest(run)
    for file, text in before.items():
        if after[file] != text:
            _write(file.with_stem(f"{file.stem}.until-step-{steps_done:07d}"), text)


def _write(file: Path, text: str) -> None:
    with atomic_file(file) as partial:
        partial.write_text(text, encoding="utf-8")

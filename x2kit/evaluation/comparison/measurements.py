"""Open what `x2kit evaluate` wrote: the result, the values of its items, and the recipe behind it. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from x2kit.errors import X2KitError
from x2kit.evaluation.expectations import data_of, number_at, numbers_of_task
from x2kit.evaluation.items import Part, items_file, read_items
from x2kit.evaluation.rankings import RankedQueries, rankings_file, read_rankings
from x2kit.io.run_directory import RECIPE, VERSIONS

RESULT = "evaluation.json"


@dataclass(frozen=True)
class Measurement:
    """A result and what belongs to it.

    Attributes:
        label: short name of the run, unique in a comparison.
        file: of the result.
        result: its content.
        recipe: the resolved recipe of the run, plain values; empty if there is none beside the result.
        versions: versions of packages by name, of the training.
    """

    label: str
    file: Path
    result: Mapping[str, Any]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> dict[str, Mapping[str, Any]]:
        """Settings and files of each task, by name."""
        return dict(self.result["tasks"])

    def numbers(self, task: str) -> Mapping[str, Any]:
        """The result of one task."""
        return numbers_of_task(self.result, task)

    def data(self, task: str) -> Mapping[str, Any]:
        """Settings, fingerprint and number of the records of a task."""
        return data_of(self.result, task)

    @cached_property
    def _items(self) -> dict[str, list[Part]]:
        return {}

    def items(self, task: str) -> list[Part] | None:
        """Values of the items of a task; None if the result names none, as older ones do.

        Raises: X2KitError for a missing or damaged file, or values whose mean is not the number of the result.
        """
        described = self.tasks[task].get("items")
        if described is None:
            return None
        if task not in self._items:
            file = items_file(self.file, task)
            parts = read_items(file, described["sha256"])
            for part in parts:
                _require_same_means(file, part, self.numbers(task))
            self._items[task] = parts
        return self._items[task]

    def rankings(self, task: str) -> list[RankedQueries]:
        """Rankings of the queries of a task; none if the task has no queries. Raises X2KitError if damaged."""
        if "rankings" not in self.tasks[task]:
            return []
        return read_rankings(rankings_file(self.file, task))


def _require_same_means(file: Path, part: Part, numbers: Mapping[str, Any]) -> None:
    for name, values in part.values.items():
        stated = number_at(numbers, f"{part.path}.{name}")
        known = values[values == values]
        if stated is not None and len(known) and abs(known.mean() - stated) > 1e-6 * max(1, abs(stated)):
            raise X2KitError(
                f"{file}: the mean of {name} over items is {known.mean():.6f}, and {part.path}.{name} of the result "
                f"{stated:.6f}; evaluate again: x2kit evaluate RUN"
            )


def open_measurement(path: Path, label: str = "", split: str | None = None) -> Measurement:
    """Open the result of a run.

    Args:
        path: a run or weights directory, or a result file.
        label: of the run; the directory's name by default.
        split: of the result in a directory, evaluation-SPLIT.json; evaluation.json by default.
    Raises: X2KitError for a path without a result, with the command that writes one.
    """
    file = _result_file(path, split)
    result = _read_json(file)
    if not _is_result(result):
        raise X2KitError(f"{file}: not a result of x2kit evaluate; expected the file that it writes")
    return Measurement(label or _name(file), file, result, _recipe(file), _versions(file))


def _is_result(found: Any) -> bool:
    """Whether the parts that a comparison reads have the types that `x2kit evaluate` writes."""
    if not isinstance(found, dict) or not isinstance(found.get("checkpoint"), dict):
        return False
    tasks, others = found.get("tasks"), ("data", "selection", "expectations")
    if not isinstance(tasks, dict) or not all(isinstance(found.get(name) or {}, dict) for name in others):
        return False
    return all(
        isinstance(task, dict)
        and ("items" not in task or (isinstance(task["items"], dict) and "sha256" in task["items"]))
        for task in tasks.values()
    )


def _result_file(path: Path, split: str | None) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise X2KitError(f"{path}: no such run or result file; expected a run directory or its {RESULT}")
    file = path / (RESULT if split is None else f"evaluation-{split}.json")
    if file.is_file():
        return file
    if not any((path / name).exists() for name in (RECIPE, f"weights/{RECIPE}")):
        raise X2KitError(f"{path}: is no run: it has neither {RECIPE} nor {file.name}")
    others = sorted(each.name for each in path.glob("evaluation-*.json") if "tasks" in _peek(each))
    hint = f"; other results there: {', '.join(str(path / name) for name in others)}" if others else ""
    option = "" if split is None else f" --split {split}"
    raise X2KitError(f"{path}: has no {file.name}; write it: x2kit evaluate {path}{option}{hint}")


def _peek(file: Path) -> Any:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise X2KitError(
            f"{file}: no readable result ({error}); evaluate again: x2kit evaluate RUN"
        ) from error


def _name(file: Path) -> str:
    own = file.resolve()
    directory = own.parent.parent if own.parent.name == "weights" else own.parent
    return directory.name if own.name == RESULT else f"{directory.name}/{own.stem}"


def _recipe(result: Path) -> Mapping[str, Any]:
    for folder in (result.parent, result.parent / "weights"):
        file = folder / RECIPE
        if file.is_file():
            try:
                found = yaml.safe_load(file.read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError) as error:
                raise X2KitError(f"{file}: no readable recipe: {error}") from error
            return found if isinstance(found, dict) else {}
    return {}


def _versions(result: Path) -> Mapping[str, str]:
    file = result.parent / VERSIONS
    found = _read_json(file) if file.is_file() else {}
    if not isinstance(found, dict):
        return {}
    packages = found.get("packages")
    named = packages.items() if isinstance(packages, dict) else ()
    return {"python": str(found.get("python", "")), **{name: str(each) for name, each in named}}


def label_runs(paths: Sequence[Path], split: str | None = None) -> list[Measurement]:
    """Open several results under unique names: the directory's, or the whole path where two are equal.

    Raises: X2KitError as `open_measurement`, or for a result that is named twice.
    """
    found = [open_measurement(path, split=split) for path in paths]
    files = [one.file.resolve() for one in found]
    if twice := [one.file for number, one in enumerate(found) if files[number] in files[:number]]:
        raise X2KitError(f"{twice[0]}: named twice; a run is not compared with itself")
    names = [one.label for one in found]
    return [
        one if names.count(one.label) == 1 else open_measurement(one.file, str(path))
        for one, path in zip(found, paths, strict=True)
    ]

"""Find the task by which a model answers or describes, in its saved recipe. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from x2kit.errors import WeightsError
from x2kit.model.config import HeadsConfig
from x2kit.plugin.choice import context_of
from x2kit.plugin.components import TaskConfig
from x2kit.plugin.registry import Registry


class SavedTasks(NamedTuple):
    """The tasks of a saved recipe.

    Attributes:
        tree: the recipe.
        registry: with its plugins.
        where: the recipe's file, for errors.
    """

    tree: Mapping[str, Any]
    registry: Registry
    where: str

    def find(self, produces: str) -> TaskConfig | None:
        """Return the first task that gives such texts and fits the model's heads.

        Measured tasks come first, for their list of answers, then trained ones. For weights whose training is unknown,
        such as official checkpoints, installed tasks that need no setting follow.

        Raises: WeightsError for a task of the recipe that is invalid.
        """
        heads = HeadsConfig.model_validate(self.tree["model"].get("heads") or {}, context=self._context)
        for task in (*self._saved(), *self._installed()):
            if task.produces == produces and not task.missing_heads(heads):
                return task
        return None

    @property
    def _context(self) -> dict[str, Any]:
        return context_of(self.registry)

    def _saved(self) -> Iterator[TaskConfig]:
        evaluation, data = self.tree.get("evaluation") or {}, self.tree.get("data") or {}
        tasks = {f"evaluation.tasks.{name}": task for name, task in (evaluation.get("tasks") or {}).items()}
        for name, stream in (data.get("streams") or {}).items():
            if stream.get("task") is not None:
                tasks[f"data.streams.{name}.task"] = stream["task"]
        try:
            yield from (
                TypeAdapter(dict[str, TaskConfig]).validate_python(tasks, context=self._context).values()
            )
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise WeightsError(f"{self.where}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error

    def _installed(self) -> Iterator[TaskConfig]:
        if "data" in self.tree:
            return
        for component in (entry.component for entry in self.registry):
            settings = component.model_fields.values()
            if issubclass(component, TaskConfig) and not any(each.is_required() for each in settings):
                yield component()

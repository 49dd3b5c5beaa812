"""Visual entailment: settings of the task and its head. Imports no torch, as every command imports it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field
from x2kit.plugin import HeadConfig, Registry, TaskConfig, hookimpl

if TYPE_CHECKING:
    from torch import nn
    from x2kit.plugin import Task

x2kit_api = "1"


class EntailmentHead(HeadConfig):
    """Dropout and a linear layer over the fused summary."""

    classes: int = Field(3, gt=1, description="number of classes")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of the summary's values that are dropped")

    def build(self, width: int) -> nn.Module:
        """Build the head."""
        from torch import nn

        return nn.Sequential(nn.Dropout(self.dropout), nn.Linear(width, self.classes))


class VisualEntailment(TaskConfig):
    """Whether an image entails a sentence, contradicts it, or leaves it open (SNLI-VE)."""

    losses = ("entailment",)

    labels: tuple[str, ...] = Field(
        ("contradiction", "neutral", "entailment"), min_length=2, description="values of the field `label`"
    )
    head: str = Field("entailment", description="name of its head in model.heads.extra")

    def missing_heads(self, heads: Any) -> Mapping[str, str]:
        """Require the head, with one output per label."""
        head = heads.extra.get(self.head)
        if head is None:
            return {"extra": f"missing: {self.head}, an EntailmentHead"}
        if head.classes != len(self.labels):
            return {f"extra.{self.head}": f"has {head.classes} classes for {len(self.labels)} labels"}
        return {}

    def build(self) -> Task:
        """Build the task."""
        from .task import EntailmentTask

        return EntailmentTask(self)


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Register both components."""
    registry.add(EntailmentHead)
    registry.add(VisualEntailment)

"""Tasks of pretraining, fine-tuning and evaluation, registered as the plugin x2kit_evaluation. Imports no torch."""

from __future__ import annotations

from x2kit.plugin.hookspecs import hookimpl
from x2kit.plugin.registry import Registry
from x2kit.tasks.captioning.config import Captioning
from x2kit.tasks.classification.config import Classification
from x2kit.tasks.grounding.config import Grounding, WeakGrounding
from x2kit.tasks.nlvr.config import LinearHead, TextAssignment
from x2kit.tasks.pretraining.config import ImageText, ParallelText, PlainText, RegionText, VideoText
from x2kit.tasks.retrieval.config import Retrieval
from x2kit.tasks.vqa.config import VQA, AnswerClassification, MultipleChoice

__all__ = [
    "VQA",
    "AnswerClassification",
    "Captioning",
    "Classification",
    "Grounding",
    "ImageText",
    "LinearHead",
    "MultipleChoice",
    "ParallelText",
    "PlainText",
    "RegionText",
    "Retrieval",
    "TextAssignment",
    "VideoText",
    "WeakGrounding",
]

x2kit_api = "1"


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Register the tasks."""
    registry.add(ImageText)
    registry.add(RegionText)
    registry.add(VideoText)
    registry.add(ParallelText)
    registry.add(PlainText)
    registry.add(Retrieval)
    registry.add(Grounding)
    registry.add(WeakGrounding)
    registry.add(VQA)
    registry.add(AnswerClassification)
    registry.add(MultipleChoice)
    registry.add(Classification)
    registry.add(TextAssignment)
    registry.add(LinearHead)
    registry.add(Captioning)

"""Registration of the tasks, bounds of their settings, imports."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from x2kit.plugin import Registry
from x2kit.tasks import Grounding, Retrieval, WeakGrounding, x2kit_register


def test_the_plugin_registers_its_tasks() -> None:
    registry = Registry("x2kit_evaluation", "x2kit")
    x2kit_register(registry)
    assert [(entry.component.kind, entry.component.component_name()) for entry in registry] == [
        ("head", "LinearHead"),
        ("task", "AnswerClassification"),
        ("task", "Captioning"),
        ("task", "Classification"),
        ("task", "Grounding"),
        ("task", "ImageText"),
        ("task", "MultipleChoice"),
        ("task", "ParallelText"),
        ("task", "PlainText"),
        ("task", "RegionText"),
        ("task", "Retrieval"),
        ("task", "TextAssignment"),
        ("task", "VQA"),
        ("task", "VideoText"),
        ("task", "WeakGrounding"),
    ]


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        (Retrieval, {"top_k": 0}),
        (Retrieval, {"rerank": "both"}),
        (Retrieval, {"itm_weight": -1}),
        (Grounding, {"iou": 1}),
        (WeakGrounding, {"layer": -1}),
        (WeakGrounding, {"alpha": -0.5}),
    ],
)
def test_settings_out_of_bounds_are_refused(
    task: type[Retrieval | Grounding | WeakGrounding], settings: dict[str, object]
) -> None:
    with pytest.raises(ValidationError):
        task.model_validate(settings)


def test_importing_the_tasks_does_not_import_torch() -> None:
    code = "import sys, x2kit.evaluation, x2kit.tasks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""The tasks as components: their names, their settings, and that they are light."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from x2kit.plugin import Registry
from x2kit.tasks.config import Grounding, Retrieval, x2kit_register


def test_the_plugin_registers_both_tasks() -> None:
    registry = Registry("x2kit_evaluation", "x2kit")
    x2kit_register(registry)
    assert [(entry.component.kind, entry.component.component_name()) for entry in registry] == [
        ("task", "Grounding"),
        ("task", "Retrieval"),
    ]


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        (Retrieval, {"top_k": 0}),
        (Retrieval, {"rerank": "both"}),
        (Retrieval, {"itm_weight": -1}),
        (Grounding, {"iou": 1}),
    ],
)
def test_impossible_settings_are_refused(
    task: type[Retrieval | Grounding], settings: dict[str, object]
) -> None:
    with pytest.raises(ValidationError):
        task.model_validate(settings)


def test_naming_the_tasks_imports_no_torch() -> None:
    code = "import sys, x2kit.evaluation, x2kit.tasks.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""A saved step holds rows of every kind and of tasks, and is read without running code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from tests.training.conftest import recipe_tree, step_batch, texts
from tests.training.step.test_tasks import rows
from x2kit.plugin import Texts, VisionFeatures
from x2kit.training.nonfinite.saved_step import SavedStep, load_step, save_step


def same(found: Any, expected: Any) -> bool:
    """Compare values, tensors within named tuples, tuples and mappings included."""
    if isinstance(expected, Tensor):
        return torch.equal(found, expected)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[name], expected[name]) for name in expected)
    if isinstance(expected, tuple):
        return type(found) is type(expected) and all(map(same, found, expected))
    return bool(found == expected)


def test_rows_of_tasks_are_restored_with_those_of_pretraining(tmp_path: Path) -> None:
    first = texts([3, 2], 8, seed=0)
    sees, positions = torch.ones(2, 8, 8, dtype=torch.bool).tril(), torch.arange(8).expand(2, 8)
    in_part = rows()._replace(texts=(Texts(first.ids, sees, positions),))
    batch = step_batch()
    features = VisionFeatures(torch.rand(3, 8), torch.rand(3, 16, 8), (4, 4))
    batch = batch._replace(
        step=3, features=features, streams={**batch.streams, "pairs": rows(), "captions": in_part}
    )
    recipe = yaml.safe_dump({**recipe_tree(tmp_path), "plugins": []})
    folder = save_step(tmp_path / "run", SavedStep(3, batch, ["loss"], {"weight": torch.ones(2)}, recipe))
    assert same(load_step(folder).batch, batch)

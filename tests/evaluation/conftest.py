"""A tiny model and a task context around it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.evaluation.stubs import task_context, tiny_model
from x2kit.model import X2VLM
from x2kit.plugin import TaskContext


@pytest.fixture(scope="session")
def model() -> X2VLM:
    return tiny_model()


@pytest.fixture
def context(model: X2VLM) -> Callable[..., TaskContext]:
    return task_context(model)

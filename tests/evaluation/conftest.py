"""What the tests of the evaluation share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.evaluation.stubs import Listed, photo, tiny_model
from x2kit.model import X2VLM
from x2kit.plugin import TaskContext


@pytest.fixture(scope="session")
def model() -> X2VLM:
    return tiny_model()


@pytest.fixture
def context(model: X2VLM) -> Callable[..., TaskContext]:
    """What a task is given; every part can be replaced."""

    def make(**changes: Any) -> TaskContext:
        parts: dict[str, Any] = {
            "model": model,
            "source": Listed([photo(index, captions=1 + index % 3) for index in range(9)]),
            "split": "test",
            "languages": ("en", "de"),
            "trained_with_images": ("en",),
            "device": model.device,
            "batch_size": 4,
            "progress": lambda what, done, total: None,
        }
        return TaskContext(**{**parts, **changes})

    return make

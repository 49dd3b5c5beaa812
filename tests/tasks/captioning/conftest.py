"""A model that reads captions from left to right, and a reader of records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from x2kit_fusion import CrossBert

from tests.model.generation.test_left_to_right import BertOfWords
from tests.model.tiny import TinyVision
from x2kit.data.transforms.text import clean
from x2kit.errors import DataError, Reason
from x2kit.model import X2VLM, build_model
from x2kit.model.config import HeadsConfig, ModelConfig


@pytest.fixture
def model() -> X2VLM:
    torch.manual_seed(0)
    config = ModelConfig(
        vision=TinyVision(width=16),
        text=BertOfWords(layers=1, width=16, heads=2, max_length=40),
        fusion=CrossBert(layers=1, heads=2, dropout=0.1, init_std=0.2),
        heads=HeadsConfig(built=("mlm",)),
    )
    return build_model(config)


class StubReader:
    """Reads images as they are, and texts of one language."""

    def __init__(self, training: bool, language: str = "en") -> None:
        self.training, self.language = training, language
        self.rng = np.random.default_rng(0)

    def image(self, value: Any, may_flip: bool = True) -> Any:
        return value

    def video(self, value: Any) -> Any:
        return list(value)

    def text(self, text: Any, raw: bool = False) -> str:
        (choice, *_) = text if isinstance(text, list) else [text]
        found = choice.get(self.language) if isinstance(choice, dict) else choice
        if found is None:
            raise DataError("no text", reason=Reason.LANGUAGE_MISSING)
        return found if raw else clean(found)

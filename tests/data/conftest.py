"""Fixtures of the data pipeline."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.stubs import WordTokenizer
from x2kit.plugin import ImageSpec


@pytest.fixture
def tokenizer() -> WordTokenizer:
    return WordTokenizer()


@pytest.fixture
def spec() -> ImageSpec:
    return ImageSpec(size=32)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)

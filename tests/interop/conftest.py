"""A small random checkpoint of the model with the fewest tensors, and plugins as they are installed."""

from __future__ import annotations

import pytest
from torch import Tensor

from tests.interop import made
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.registry import Registry


@pytest.fixture(scope="session")
def small() -> made.Inventory:
    """Names and shapes."""
    return min((made.inventory(name).scaled() for name in made.inventories()), key=lambda it: len(it.shapes))


@pytest.fixture
def tensors(small: made.Inventory) -> dict[str, Tensor]:
    """Its checkpoint, to be spoilt."""
    return made.tensors_of(small)


@pytest.fixture(scope="session")
def registry() -> Registry:
    """Of the installed plugins."""
    return load_plugins().registry

"""A tiny model for use, image files, and a network that refuses."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image

from tests.model.conftest import build
from x2kit.inference import Model

TEXTS = ["a red dog", "the sun and the moon", "Under the GREEN sun!"]


def refuse(*arguments: Any, **named: Any) -> NoReturn:
    raise AssertionError("a connection was opened")


@pytest.fixture(autouse=True)
def no_network() -> Iterator[None]:
    """Refuse every connection and every look-up of a name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


def picture(seed: int, size: tuple[int, int] = (30, 20)) -> Image.Image:
    """An image of noise."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.fixture
def user() -> Model:
    return Model(build(), "tiny")


@pytest.fixture
def filming() -> Model:
    """A model with positions of two frames."""
    return Model(build(frames=2), "filming")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Five image files."""
    paths = [tmp_path / f"{seed}.png" for seed in range(5)]
    for seed, path in enumerate(paths):
        picture(seed).save(path)
    return paths

"""What the tests of annotation sources share: small real images, and files as the official releases have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Write = Callable[..., Path]


@pytest.fixture
def image(tmp_path: Path) -> Write:
    """Writes a JPEG of 64 x 48 pixels, or of another size."""

    def write(name: str, size: tuple[int, int] = (64, 48)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (sum(name.encode()) % 256, 40, 90)).save(path)
        return path

    return write


@pytest.fixture
def document(tmp_path: Path) -> Write:
    """Writes JSON, or the records of a list as JSON Lines where the name says so."""

    def write(name: str, content: Any, **layout: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jsonl":
            text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in content)
        else:
            text = json.dumps(content, ensure_ascii=False, **layout)
        path.write_text(text, encoding="utf-8")
        return path

    return write

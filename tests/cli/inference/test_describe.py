from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from x2kit.inference import Description, Model, Scored

Run = Callable[..., Any]


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Replace the generation of texts, and record the prompts."""
    record: list[tuple[Any, ...]] = []

    def describe(model: Model, image: str, prompt: str | None, count: int) -> Description:
        record.append((image, prompt, count))
        return Description(image, prompt, [Scored("a red dog", 0.5, -1.5)])

    monkeypatch.setattr(Model, "describe", describe)
    return record


def test_every_image_has_a_line(x2kit: Run, model: str, pictures: Path, described: list[Any]) -> None:
    done = x2kit("describe", "pictures", model, "--count", "3")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        "-1.5000\ta red dog\tpictures/red.png", "-1.5000\ta red dog\tpictures/sub/green.jpg"
    ]  # fmt: skip
    assert described[0] == ("pictures/red.png", None, 3)


def test_the_text_of_a_line_replaces_the_prompt(
    x2kit: Run, model: str, pictures: Path, described: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = 'pictures/red.png\n{"image": "pictures/red.png", "text": "ein"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    assert x2kit("describe", "-", model, "--prompt", "a").status == 0
    assert [prompt for _, prompt, _ in described] == ["a", "ein"]

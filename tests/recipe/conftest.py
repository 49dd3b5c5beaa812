"""A new working directory with a plugin (stub_plugin.py, there stubs.py) and a recipe of it, good.yaml."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes files into the new working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(HERE / "stub_plugin.py", "stubs.py")
    shutil.copy(HERE / "good.yaml", "good.yaml")

    def write_file(name: str, text: str) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


@pytest.fixture
def good() -> str:
    """The text of good.yaml."""
    return (HERE / "good.yaml").read_text(encoding="utf-8")

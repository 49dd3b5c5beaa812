"""`x2kit plugins new --file`: one module that works unchanged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from x2kit.cli.plugins.new import SCAFFOLDS

SMALL = {
    "vision": ("image_size=32", "width=8"),
    "text": ("width=8", "layers=1", "heads=2", "max_length=16"),
    "fusion": ("layers=1", "heads=2"),
}


@pytest.mark.parametrize("kind", SCAFFOLDS)
def test_the_written_file_passes_the_kit_and_ruff(
    folder: Path, x2kit: Callable[..., object], kind: str
) -> None:
    done = x2kit("plugins", "new", "my-own", "--kind", kind, "--file")
    assert (done.status, done.out.splitlines()[0]) == (0, "my_own.py")
    assert done.out.splitlines()[-1] == "next: x2kit plugins check ./my_own.py"
    settings = [part for setting in SMALL.get(kind, ()) for part in ("--set", setting)]
    checked = x2kit("plugins", "check", "./my_own.py", *settings)
    assert checked.status == 0, checked.out
    rules = ("--isolated", "--no-cache", "--line-length", "110")
    for command in (("check", *rules, "--select", "E,F,I,UP,B"), ("format", "--check", *rules)):
        ruff = [sys.executable, "-m", "ruff", *command, "my_own.py"]
        linted = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert linted.returncode == 0, linted.stdout


def test_an_existing_file_is_not_overwritten(folder: Path, x2kit: Callable[..., object]) -> None:
    (folder / "my_own.py").write_text("mine")
    done = x2kit("plugins", "new", "my-own", "--kind", "task", "--file")
    assert (done.status, (folder / "my_own.py").read_text()) == (2, "mine")
    assert "my_own.py exists; choose another --directory or name" in done.err


def test_a_source_has_sample_data(folder: Path, x2kit: Callable[..., object]) -> None:
    done = x2kit("plugins", "new", "my-own", "--kind", "source", "--file", "--directory", "work")
    assert done.status == 0
    names = {path.relative_to(folder / "work").as_posix() for path in (folder / "work").rglob("*.*")}
    assert {"my_own.py", "sample/captions.tsv"} <= names

"""Every recorded file is read by a test of this folder, or listed here as pending.

Whether a file is looked at is seen from the sources: it is named there, as

- "relpos/tables.json", its path in the reference, parts of which may vary: f"{which}/losses.json", "keys/*.json";
- "losses.json" or "losses", its name, if it is of a recorded model: `record` takes any of these models.

That what a file holds is compared in full is for the test of the file to say: see `test_no_recorded_loss_is_left_out`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import pytest

from .conftest import REFERENCE

LATER: dict[str, str] = {}
"""Recorded files that no test looks at yet, and which work they wait for."""

NO_DATA = {"README.md"}

COMPARES_NOTHING = {"deeper_recording.py", "other_recording.py", "page.py", "plain_run.py"}
"""Modules that name files for other reasons."""


def recorded_files() -> list[str]:
    """Paths in the reference."""
    files = (path.relative_to(REFERENCE) for path in REFERENCE.rglob("*") if path.is_file())
    return sorted(file.as_posix() for file in files if file.name not in NO_DATA)


def strings(source: str) -> Iterator[str]:
    """The strings of a source; a star is what varies in an f-string."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def named() -> set[str]:
    """What the other modules of this folder name."""
    here = Path(__file__)
    return {
        text
        for path in here.parent.glob("*.py")
        if path != here and path.name not in COMPARES_NOTHING
        for text in strings(path.read_text(encoding="utf-8"))
    }


def is_path(text: str) -> bool:
    """Whether a string names files by their path; one that leaves folder and name open names none."""
    path = PurePosixPath(text)
    return len(path.parts) == 2 and {path.parent.name, path.stem} != {"*"}


def is_looked_at(file: str, names: set[str]) -> bool:
    if any(fnmatchcase(file, name) for name in names if is_path(name)):
        return True
    path = PurePosixPath(file)
    return (REFERENCE / path.parent / "config.json").exists() and not names.isdisjoint({path.name, path.stem})


def test_there_are_recorded_files() -> None:
    assert recorded_files(), f"{REFERENCE} holds no recording"


@pytest.mark.parametrize("file", recorded_files())
def test_every_file_is_read_or_pending(file: str) -> None:
    assert is_looked_at(file, named()) or file in LATER, (
        f"no test in tests/parity names {file}: compare what it holds, or list it in LATER with the reason"
    )


def test_pending_files_are_recorded_and_not_read() -> None:
    unknown = sorted(set(LATER).difference(recorded_files()))
    assert not unknown, f"LATER has files that were not recorded: {unknown}"
    done = [file for file in LATER if is_looked_at(file, named())]
    assert not done, f"these files are looked at by now; take them out of LATER: {done}"


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ('FILE = "text/captions.json"', "text/captions.json"),
        ('check(f"{which}/losses.json", found)', "xvlm/losses.json"),
        ('KEYS = sorted(REFERENCE.glob("keys/*.json"))', "keys/index.json"),
        ('recording.tensors("gradients")', "cclm/gradients.safetensors"),
        ('load_file(folder / "model.safetensors")', "xvlm/model.safetensors"),
    ],
)
def test_ways_to_name_a_file(source: str, file: str) -> None:
    assert is_looked_at(file, set(strings(source)))


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ('"""Compares text/captions.json one day."""', "text/captions.json"),
        ('check(f"{which}/{file}.safetensors", found)', "xvlm/gradients.safetensors"),
        ('FILE = "tables.json"', "relpos/tables.json"),
        ('FILE = "relpos/tables.json"', "relpos/tables.safetensors"),
    ],
)
def test_sources_that_read_no_file(source: str, file: str) -> None:
    assert not is_looked_at(file, set(strings(source)))

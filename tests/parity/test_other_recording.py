"""The tests of this folder hold on another recording of the same layout, with other rows, places and cases."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from . import other_recording
from .conftest import REFERENCE

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("other") / "recording"
    other_recording.write(REFERENCE, directory)
    return directory


def run(recording: Path, tests: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Tests of this folder on a recording; what they find does not go into the page of evidence."""
    environment = {**os.environ, "X2KIT_REFERENCE": str(recording)}
    environment.pop("X2KIT_WRITE_PARITY", None)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, tests)]
    return subprocess.run(
        command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_parity_tests_pass_on_another_recording(other: Path) -> None:
    done = run(other, ["-m", "not slow", HERE])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.mark.slow
def test_the_tests_read_the_other_recording(tmp_path: Path) -> None:
    done = run(tmp_path / "nothing", [HERE / "test_frames.py"])
    assert done.returncode != 0
    assert str(tmp_path / "nothing") in done.stdout


def test_every_folder_of_the_other_recording_differs(other: Path) -> None:
    files = [path.relative_to(other) for path in other.rglob("*") if path.is_file()]
    known = [file for file in files if (REFERENCE / file).exists()]
    changed = {file for file in known if (other / file).read_bytes() != (REFERENCE / file).read_bytes()}
    assert {file.parts[0] for file in changed} == {path.name for path in REFERENCE.iterdir()}


def test_rows_take_their_negatives_along() -> None:
    batch = {
        "in.text_ids": torch.tensor([[0], [1], [2]]),
        "in.text_neg_idx": torch.tensor([1, 2, 1]),
        "out.similarity": torch.arange(9).view(3, 3),
    }
    found = other_recording.batch_in_order(batch)
    assert found["in.text_ids"].flatten().tolist() == [2, 0, 1]
    # the first row was the last; its negative, the second, is the last by now
    assert found["in.text_neg_idx"].tolist() == [2, 2, 0]
    assert found["out.similarity"].tolist() == [[8, 6, 7], [2, 0, 1], [5, 3, 4]]


def test_fewer_images_and_texts_are_searched(other: Path) -> None:
    name = "retrieval/retrieval.safetensors"
    before, after = (load_file(folder / name)["out.similarity"].shape for folder in (REFERENCE, other))
    assert all(new < old for new, old in zip(after, before, strict=True))

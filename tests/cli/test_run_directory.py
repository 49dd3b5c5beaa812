from __future__ import annotations

from pathlib import Path

import pytest

from x2kit.cli.run_directory import holds_run, prepare_run_directory
from x2kit.errors import CheckpointError


def test_a_new_or_empty_directory_is_free(tmp_path: Path) -> None:
    assert prepare_run_directory(tmp_path, restart=False) is None
    assert prepare_run_directory(tmp_path / "new", restart=True) is None


@pytest.mark.parametrize("restart", [False, True])
def test_a_directory_of_a_run_that_failed_before_its_first_step_is_free(
    tmp_path: Path, restart: bool
) -> None:
    for name in ("lock", "traceback.txt"):
        (tmp_path / name).touch()
    assert prepare_run_directory(tmp_path, restart) is None


@pytest.mark.parametrize("restart", [False, True])
def test_only_a_run_is_deleted(tmp_path: Path, restart: bool) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    (tmp_path / "recipe.yaml").write_text("a cake")
    with pytest.raises(CheckpointError, match="is not empty and has no run"):
        prepare_run_directory(tmp_path, restart)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="is a file, not a run directory"):
        prepare_run_directory(tmp_path / "file", restart=True)


@pytest.mark.parametrize("trace", ["versions.json", "metrics.jsonl", "checkpoints", "weights"])
def test_a_recipe_with_a_file_of_training_is_a_run(tmp_path: Path, trace: str) -> None:
    (tmp_path / trace).mkdir()
    assert not holds_run(tmp_path)
    (tmp_path / "recipe.yaml").write_text("")
    assert holds_run(tmp_path)

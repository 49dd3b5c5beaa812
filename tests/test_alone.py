from __future__ import annotations

from pathlib import Path

import pytest

from tests.alone import files_below, run_alone


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two test files, of which the second needs an attribute that the first one sets."""
    (tmp_path / "test_first.py").write_text("import sys\nsys.left_behind = 1\ndef test_a(): pass\n")
    (tmp_path / "test_second.py").write_text("import sys\ndef test_b(): assert sys.left_behind\n")
    return list(files_below([tmp_path]))


def test_a_file_that_needs_another_one_fails_alone(files: list[Path]) -> None:
    first, second = [run_alone(file) for file in files]
    assert first.passed
    assert not second.passed
    assert "no attribute 'left_behind'" in second.output

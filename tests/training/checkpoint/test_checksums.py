from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from x2kit.errors import CheckpointError
from x2kit.training.checkpoint.checksums import HashedFile, verify_checksums, write_checksums


def files(folder: Path) -> None:
    for name in ("a", "b", "c"):
        (folder / name).write_text(name)


def test_a_hashed_file_knows_its_checksum(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as stream:
        written = HashedFile(stream)
        written.write(b"one")
        written.write(b"two")
        assert written.tell() == 6
    assert written.checksum == hashlib.sha256(b"onetwo").hexdigest()
    assert written.failed is None


def test_a_hashed_file_keeps_its_write_error(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb", buffering=0) as stream:
        written = HashedFile(stream)
        with pytest.raises(OSError, match="No space left"):
            written.write(b"one")
    assert written.failed is not None


@pytest.mark.parametrize(("damaged", "finder"), [("a", 0), ("b", 1), ("c", 0)])
def test_each_rank_verifies_a_part_of_the_files(tmp_path: Path, damaged: str, finder: int) -> None:
    files(tmp_path)
    write_checksums(tmp_path, {})
    (tmp_path / damaged).write_text("other")
    verify_checksums(tmp_path, 1 - finder, 2)
    with pytest.raises(CheckpointError, match=f"{damaged}: its checksum differs"):
        verify_checksums(tmp_path, finder, 2)


def test_a_missing_file_is_found_on_every_rank(tmp_path: Path) -> None:
    files(tmp_path)
    write_checksums(tmp_path, {})
    (tmp_path / "b").unlink()
    for rank in range(2):
        with pytest.raises(CheckpointError, match="b: missing"):
            verify_checksums(tmp_path, rank, 2)

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from x2kit.errors import CheckpointError
from x2kit.training.checkpoint.checksums import HashedFile, verify_checksums, write_checksums


def files(folder: Path) -> None:
    for name in ("a", "b", "c"):
        (folder / name).write_text(name)


def test_what_was_written_is_known_without_being_read_again(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as stream:
        written = HashedFile(stream)
        written.write(b"one")
        written.write(b"two")
        assert written.tell() == 6
    assert written.checksum == hashlib.sha256(b"onetwo").hexdigest()
    assert written.failed is None


def test_it_remembers_why_it_could_not_go_on(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb", buffering=0) as stream:
        written = HashedFile(stream)
        with pytest.raises(OSError, match="No space left"):
            written.write(b"one")
    assert written.failed is not None


@pytest.mark.parametrize(("damaged", "finder"), [("a", 0), ("b", 1), ("c", 0)])
def test_several_processes_read_each_file_once(tmp_path: Path, damaged: str, finder: int) -> None:
    files(tmp_path)
    write_checksums(tmp_path, {})
    (tmp_path / damaged).write_text("other")
    verify_checksums(tmp_path, 1 - finder, 2)
    with pytest.raises(CheckpointError, match=f"{damaged}: its checksum differs"):
        verify_checksums(tmp_path, finder, 2)


def test_every_process_sees_that_a_file_is_missing(tmp_path: Path) -> None:
    files(tmp_path)
    write_checksums(tmp_path, {})
    (tmp_path / "b").unlink()
    for rank in range(2):
        with pytest.raises(CheckpointError, match="b: missing"):
            verify_checksums(tmp_path, rank, 2)

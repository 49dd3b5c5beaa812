"""Write and verify SHA256SUMS of a directory, in the format of `sha256sum`. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from x2kit.errors import CheckpointError
from x2kit.io.identity import sha256_of

CHECKSUMS = "SHA256SUMS"


class HashedFile:
    """Hash a file while it is written, and keep the error that stopped the write.

    Libraries that write into it hide that error.

    Args:
        stream: open for writing, at its start; only appended to.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.failed: OSError | None = None

    @property
    def checksum(self) -> str:
        """Hexadecimal SHA-256 of the bytes written so far."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> int:
        """Append all of the data; return its number of bytes."""
        try:
            count = self._stream.write(data)
        except OSError as error:
            self.failed = error
            raise
        self._hash.update(data)
        return count

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self._stream.tell()

    def flush(self) -> None:
        """Flush the buffer."""
        self._stream.flush()

    def fileno(self) -> int:
        """Return the descriptor, for `os.fsync`."""
        return self._stream.fileno()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def write_checksums(directory: Path, known: Mapping[str, str]) -> None:
    """Write SHA256SUMS of all files in a directory.

    Args:
        directory: of the files.
        known: checksums taken while writing; these files are not read again.
    """
    files = sorted({path.name for path in directory.iterdir() if path.is_file()} - {CHECKSUMS})
    lines = [f"{known.get(name) or sha256_of(directory / name)}  {name}\n" for name in files]
    (directory / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def verify_checksums(directory: Path, rank: int = 0, count: int = 1) -> None:
    """Compare every file of a directory with SHA256SUMS.

    Args:
        directory: with its checksums.
        rank: of this process; each rank verifies a part of the files.
        count: number of ranks.
    Raises: CheckpointError for a missing, unlisted or changed file; OSError.
    """
    lines = (directory / CHECKSUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    recorded = {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}
    found = {path.name for path in directory.iterdir() if path.is_file()} - {CHECKSUMS}
    for name in sorted(found ^ set(recorded)):
        raise CheckpointError(f"{name}: {'not in ' + CHECKSUMS if name in found else 'missing'}")
    for name in sorted(recorded)[rank::count]:
        if sha256_of(directory / name) != recorded[name]:
            raise CheckpointError(f"{name}: its checksum differs from the recorded one")

"""SHA256SUMS of a directory, as `sha256sum --check` reads them. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from x2kit.errors import CheckpointError

CHECKSUMS = "SHA256SUMS"


class HashedFile:
    """A file that is only appended to; it knows the checksum of what went in, and why it could not go on.

    Libraries that write into it hide the second.

    Args:
        stream: open for writing, at its beginning.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.failed: OSError | None = None

    @property
    def checksum(self) -> str:
        """Of what was written so far, in hexadecimal digits."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> int:
        """Append all of the data; returns its number of bytes."""
        try:
            count = self._stream.write(data)
        except OSError as error:
            self.failed = error
            raise
        self._hash.update(data)
        return count

    def tell(self) -> int:
        """Bytes written so far."""
        return self._stream.tell()

    def flush(self) -> None:
        """Hand all of it to the system."""
        self._stream.flush()

    def fileno(self) -> int:
        """For `os.fsync`."""
        return self._stream.fileno()

    def close(self) -> None:
        """End it."""
        self._stream.close()


def write_checksums(directory: Path, known: Mapping[str, str]) -> None:
    """SHA256SUMS of all files of a directory.

    Args:
        known: sums of files that were taken while they were written, so that they need not be read again.
    """
    files = sorted({path.name for path in directory.iterdir() if path.is_file()} - {CHECKSUMS})
    lines = [f"{known.get(name) or _checksum(directory / name)}  {name}\n" for name in files]
    (directory / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def verify_checksums(directory: Path, rank: int = 0, count: int = 1) -> None:
    """Raise CheckpointError or OSError unless every file is there and is what was written.

    Args:
        directory: with its checksums.
        rank: of this process, where several read the files together, each some of them.
        count: of these processes.
    """
    lines = (directory / CHECKSUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    recorded = {name: sum_ for sum_, _, name in (line.partition("  ") for line in lines)}
    found = {path.name for path in directory.iterdir() if path.is_file()} - {CHECKSUMS}
    for name in sorted(found ^ set(recorded)):
        raise CheckpointError(f"{name}: {'not in ' + CHECKSUMS if name in found else 'missing'}")
    for name in sorted(recorded)[rank::count]:
        if _checksum(directory / name) != recorded[name]:
            raise CheckpointError(f"{name}: its checksum differs from the recorded one")


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

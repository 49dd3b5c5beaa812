"""Records of JSON Lines files by position. Imports no torch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from hashlib import blake2b

from x2kit.data import files
from x2kit.data.chain import Chain
from x2kit.data.encoded import as_object, parse_json
from x2kit.data.index_cache import remembered_fingerprint
from x2kit.data.json_lines import JsonLines
from x2kit.data.line_index import LineIndex
from x2kit.data.record_fields import every_text, record_of, texts_of
from x2kit.errors import DataError
from x2kit.plugin.sources import Place, Record

_log = logging.getLogger(__name__)


class JsonLinesSource:
    """The records of all files, one after the other; each is read from disk when it is asked for."""

    def __init__(self, config: JsonLines) -> None:
        self.config = config
        paths = config.paths()
        self._files = [LineIndex(path) for path in paths]
        self._chain = Chain(map(len, self._files))
        if not len(self):
            raise DataError(f"no record in {', '.join(paths)}")
        self._names = files.shared_names(paths)

    def __len__(self) -> int:
        return len(self._chain)

    def __getitem__(self, index: int) -> Record:
        """The record at `index`; one without a field `id` is called by file and line.

        Raises: DataError with file, line and reason for a line that is no record.
        """
        file, line = self._chain.locate(index)
        lines = self._files[file]
        number = int(lines.numbers[line])
        name = None
        try:
            fields = as_object(parse_json(lines.read(line)))
            name = str(fields["id"]) if "id" in fields else f"{self._names[file]}:{number}"
            record = record_of(fields, self.config, files.folder_of(lines.location))
        except DataError as error:
            raise DataError(
                f"{lines.location}:{number}: {error}", reason=error.reason, record=name
            ) from error
        record["id"] = name
        return record

    def place(self, index: int) -> Place:
        """File and line of a record."""
        file, line = self._chain.locate(index)
        lines = self._files[file]
        return Place(lines.location, line=int(lines.numbers[line]))

    def texts(self) -> Iterator[str]:
        """Every text of every record, in the order of the files; broken lines have none and are logged."""
        broken = 0
        for lines in self._files:
            for line in range(len(lines)):
                try:
                    record = texts_of(as_object(parse_json(lines.read(line))), self.config)
                except DataError as error:
                    broken += 1
                    _log.debug("%s:%d: %s", lines.location, lines.numbers[line], error)
                    continue
                yield from every_text(record)
        if broken:
            _log.warning("%d of %d records gave no texts: they are broken", broken, len(self))

    def fingerprint(self) -> str:
        """A hash of the settings that shape records and of all that the files hold; no picture beside them is read.

        Of a remote file its size and its version stand for its content, where the store tells one.
        """
        shaping = self.config.model_dump_json(exclude={"files", "image_root", "image_hosts", "root"})
        return remembered_fingerprint(
            [lines.location for lines in self._files],
            lambda: self._hashed(shaping),
            f"lines {shaping} {self._names}",
        )

    def _hashed(self, shaping: str) -> str:
        digest = blake2b(shaping.encode(), digest_size=8)
        for name, lines in zip(self._names, self._files, strict=True):
            digest.update(f"\0{name}\0".encode())
            _add_content(digest, lines.location)
        return digest.hexdigest()


def _add_content(digest: blake2b, location: str) -> None:
    if files.is_url(location) and (file := files.state(location)).version is not None:
        digest.update(f"{file.size} {file.version}".encode())
        return
    for chunk in files.chunks(location, 2**20):
        digest.update(chunk)

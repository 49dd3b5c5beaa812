"""Read records from tar shards in the layout of webdataset. Imports no torch."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from x2kit.data.index.indexed_files import IndexedFiles
from x2kit.data.index.tar_members import Member, MemberIndex, key_and_ending, truncated
from x2kit.data.sources.fields import errors_at, parse_object, record_texts
from x2kit.data.sources.json_lines import CAPTION_KEYS, texts_of
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Place, Record

if TYPE_CHECKING:
    from x2kit.data.sources.config import TarShards


class TarShardsSource:
    """The records of tar shards in order, each read from its shard on access."""

    def __init__(self, config: TarShards) -> None:
        self.config = config
        self._shards = IndexedFiles(config.found(), MemberIndex, "tar members")

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, index: int) -> Record:
        """Read the record at `index`; its id is shard and key.

        Raises: DataError with shard, key and reason, and with the byte where a shard is truncated.
        """
        name, shard, number = self._shards.locate(index)
        members = shard.members(number)
        by_ending, name = _by_ending(name, members)
        try:
            if members[-1].size is None:
                raise truncated(shard.location, members[-1])
            image = _first(by_ending, self.config.image_parts)
            texts = self._text_endings(by_ending)
            contents = shard.read([by_ending[ending] for ending in [*texts, *image]])
            record = self._texts(dict(zip(texts, contents, strict=False)))
            if image:
                record["image"] = contents[-1]
            if not record:
                raise DataError(
                    f"no image and no text; its files are {', '.join(by_ending)}", reason=Reason.FIELD_MISSING
                )
        except DataError as error:
            where = "" if shard.location in str(error) else f"{shard.location}: {members[0].name}: "
            raise DataError(f"{where}{error}", reason=error.reason, record=name) from error
        record["id"] = name
        return record

    def place(self, index: int) -> Place:
        """Return shard and first byte of a record."""
        _, shard, number = self._shards.locate(index)
        return Place(shard.location, offset=shard.members(number)[0].start)

    def texts(self) -> Iterator[str]:
        """Yield every text of every record in order; broken records are skipped."""
        for name, shard in self._shards:
            for number in range(len(shard)):
                members = shard.members(number)
                by_ending, _ = _by_ending(name, members)
                endings = self._text_endings(by_ending)
                if members[-1].size is None or not endings:
                    continue
                try:
                    contents = shard.read([by_ending[ending] for ending in endings])
                    record = self._texts(dict(zip(endings, contents, strict=True)))
                except DataError:
                    continue  # counted when the record is drawn
                yield from record_texts(record)

    def fingerprint(self) -> str:
        """Hash the settings that change records, and names, sizes and times in the tar headers."""
        return self._shards.fingerprint(self.config.model_dump_json(exclude={"files"}))

    def _text_endings(self, by_ending: dict[str, Member]) -> list[str]:
        """Return the endings of the files that hold texts."""
        classes = ["cls"] if self.config.class_names is not None and "cls" in by_ending else []
        fields = [self.config.fields_part] if self.config.fields_part in by_ending else []
        return [*_first(by_ending, self.config.caption_parts), *fields, *classes]

    def _texts(self, contents: dict[str, bytes]) -> Record:
        """Build the record, without id and image, from the contents of its files by ending."""
        config = self.config
        fields: dict[str, Any] = {}
        if config.fields_part in contents:
            with errors_at(config.fields_part):
                fields = parse_object(contents[config.fields_part])
        captions = _first(contents, config.caption_parts)
        is_class = "cls" in contents and not any(key in fields for key in CAPTION_KEYS)
        if config.caption_key is None and (captions or is_class):
            fields = {key: value for key, value in fields.items() if key not in CAPTION_KEYS}
            caption = _text(contents[captions[0]], captions[0]) if captions else self._class(contents["cls"])
            fields["caption"] = caption
        return texts_of(fields, config.caption_key, config.language)

    def _class(self, content: bytes) -> str:
        names = self.config.class_names or ()
        number = content.strip()
        if not number.isdigit() or int(number) >= len(names):
            raise DataError(
                f"cls: expected a number below {len(names)}, found {number[:20]!r}", reason=Reason.FIELD_TYPE
            )
        return names[int(number)]


def _by_ending(shard: str, members: Sequence[Member]) -> tuple[dict[str, Member], str]:
    """Return the files of a record by ending, and its id."""
    named = [(found, member) for member in members if (found := key_and_ending(member.name))]
    by_ending: dict[str, Member] = {}
    for (_, ending), member in named:
        by_ending.setdefault(ending, member)
    return by_ending, f"{shard}/{named[0][0][0]}" if named else f"{shard}:{members[0].start}"


def _first(endings: Container[str], wanted: Sequence[str]) -> list[str]:
    """Return a list of the first wanted ending that exists, or an empty list."""
    return [ending for ending in wanted if ending in endings][:1]


def _text(content: bytes, ending: str) -> str:
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{ending}: not UTF-8 at byte {error.start}", reason=Reason.NOT_UTF8) from error

"""Records of tar shards by position. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

from x2kit.data.index.chain import Chain
from x2kit.data.index.tar_members import Member, MemberIndex, cut, key_and_ending
from x2kit.data.sources.config import JsonLines, TarShards
from x2kit.data.sources.fields import as_object, parse_json
from x2kit.data.sources.json_lines import CAPTION_KEYS, every_text, texts_of
from x2kit.data.storage import files
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Place, Record


class TarShardsSource:
    """The records of all shards, one after the other; each is read from its shard when it is asked for."""

    def __init__(self, config: TarShards) -> None:
        self.config = config
        paths = config.paths()
        self._shards = [MemberIndex(path) for path in paths]
        self._chain = Chain(map(len, self._shards))
        if not len(self):
            raise DataError(f"no record in {', '.join(paths)}")
        self._names = files.shared_names(paths)
        self._fields = JsonLines(files=paths, caption_key=config.caption_key, language=config.language)

    def __len__(self) -> int:
        return len(self._chain)

    def __getitem__(self, index: int) -> Record:
        """The record at `index`, called by its shard and its key.

        Raises: DataError with shard, key and reason, with the byte where a shard was cut.
        """
        at, number = self._chain.locate(index)
        shard = self._shards[at]
        members = shard.members(number)
        parts, name = self._parts(self._names[at], members)
        try:
            if members[-1].size is None:
                raise cut(shard.location, members[-1])
            image = self._chosen(parts, self.config.image_parts)
            texts = self._text_parts(parts)
            contents = shard.read([parts[ending] for ending in [*texts, *image]])
            record = self._texts(dict(zip(texts, contents, strict=False)))
            if image:
                record["image"] = contents[-1]
            if not record:
                raise DataError(
                    f"no image and no text; its files are {', '.join(parts)}", reason=Reason.FIELD_MISSING
                )
        except DataError as error:
            where = "" if shard.location in str(error) else f"{shard.location}: {members[0].name}: "
            raise DataError(f"{where}{error}", reason=error.reason, record=name) from error
        record["id"] = name
        return record

    def place(self, index: int) -> Place:
        """Shard and first byte of a record."""
        at, number = self._chain.locate(index)
        shard = self._shards[at]
        return Place(shard.location, offset=shard.members(number)[0].start)

    def texts(self) -> Iterator[str]:
        """Every text of every record, in the order of the shards; broken records have none."""
        for name, shard in zip(self._names, self._shards, strict=True):
            for number in range(len(shard)):
                members = shard.members(number)
                parts, _ = self._parts(name, members)
                wanted = self._text_parts(parts)
                if members[-1].size is None or not wanted:
                    continue
                try:
                    contents = shard.read([parts[ending] for ending in wanted])
                    record = self._texts(dict(zip(wanted, contents, strict=True)))
                except DataError:
                    continue  # whoever draws the record counts it
                yield from every_text(record)

    def fingerprint(self) -> str:
        """A hash of the settings that shape records and of all that headers say: names, sizes and times."""
        digest = blake2b(self.config.model_dump_json(exclude={"files"}).encode(), digest_size=8)
        for name, shard in zip(self._names, self._shards, strict=True):
            digest.update(f"\0{name}\0".encode() + shard.digest)
        return digest.hexdigest()

    def _parts(self, name: str, members: Sequence[Member]) -> tuple[dict[str, Member], str]:
        """The files of a record by their endings, and its id, given the name of the shard."""
        named = [(found, member) for member in members if (found := key_and_ending(member.name))]
        parts: dict[str, Member] = {}
        for (_, ending), member in named:
            parts.setdefault(ending, member)
        return parts, f"{name}/{named[0][0][0]}" if named else f"{name}:{members[0].start}"

    def _text_parts(self, parts: dict[str, Member]) -> list[str]:
        """Endings of the files that can have a part in the texts."""
        classes = ["cls"] if self.config.class_names is not None and "cls" in parts else []
        fields = [self.config.fields_part] if self.config.fields_part in parts else []
        return [*self._chosen(parts, self.config.caption_parts), *fields, *classes]

    @staticmethod
    def _chosen(parts: dict[str, Any], endings: Sequence[str]) -> list[str]:
        return [ending for ending in endings if ending in parts][:1]

    def _texts(self, contents: dict[str, bytes]) -> Record:
        """The record without its id and image, from the contents of its files."""
        fields: dict[str, Any] = {}
        if self.config.fields_part in contents:
            fields = _object(contents[self.config.fields_part], self.config.fields_part)
        beside = self._chosen(contents, self.config.caption_parts)
        classed = "cls" in contents and not any(key in fields for key in CAPTION_KEYS)
        if self.config.caption_key is None and (beside or classed):
            fields = {key: value for key, value in fields.items() if key not in CAPTION_KEYS}
            fields["caption"] = (
                _text(contents[beside[0]], beside[0]) if beside else self._class(contents["cls"])
            )
        return texts_of(fields, self._fields)

    def _class(self, content: bytes) -> str:
        names = self.config.class_names or ()
        number = content.strip()
        if not number.isdigit() or int(number) >= len(names):
            raise DataError(
                f"cls: expected a number below {len(names)}, found {number[:20]!r}", reason=Reason.FIELD_TYPE
            )
        return names[int(number)]


def _text(content: bytes, ending: str) -> str:
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{ending}: not UTF-8 at byte {error.start}", reason=Reason.NOT_UTF8) from error


def _object(content: bytes, ending: str) -> dict[str, Any]:
    try:
        return as_object(parse_json(content))
    except DataError as error:
        raise DataError(f"{ending}: {error}", reason=error.reason) from error

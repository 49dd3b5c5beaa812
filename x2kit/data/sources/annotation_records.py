"""Records of annotation files: a picture and the texts of its entries. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from x2kit.data.encoded import decode_base64
from x2kit.data.sources.annotation_files import AnnotationFiles, EntriesConfig
from x2kit.data.sources.checked_fields import every_text, is_empty, name_of, required, shown, text_of
from x2kit.data.sources.entries import EntriesSource, Entry
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Record, Text


class AnnotationSource(EntriesSource):
    """The records of annotation files."""

    shaping = frozenset(
        {
            "split",
            "image_root",
            "image_root_key",
            "image_hosts",
            "root",
            "image_key",
            "image_suffix",
            "caption_key",
            "one_record",
            "same_picture_key",
            "drop_empty",
        }
    )

    def __init__(self, config: AnnotationFiles) -> None:
        self._config = config
        super().__init__(config)

    @property
    def config(self) -> AnnotationFiles:
        return self._config

    def key(self, fields: Mapping[str, Any], file: str) -> str | None:
        if self.config.one_record == "entry":
            return None
        if self.config.same_picture_key is not None:
            return name_of(fields, self.config.same_picture_key)
        if self.config.image_as == "base64":
            return name_of(fields, self.config.image_key)
        return picture_at(fields, self.config, file)

    def left_out(self, fields: Mapping[str, Any]) -> bool:
        return self.config.drop_empty and is_empty(fields.get(self.config.caption_key))

    def record(self, entry: Entry) -> Record:
        fields, file = entry.fields, entry.file.location
        kept: dict[str, Any] = {key: fields[key] for key in self.config.keep if key in fields}
        value = required(fields, self.config.image_key)
        if self.config.image_as == "base64":
            kept["image"] = _decoded(value, self.config.image_key)
        elif isinstance(value, list):  # of tasks that compare pictures
            named = [{**fields, self.config.image_key: path} for path in value]
            kept["images"] = [picture_at(each, self.config, file) for each in named]
        else:
            kept["image"] = picture_at(fields, self.config, file)
        kept["caption"] = self._text(entry)
        return cast(Record, kept)

    def texts_of(self, entry: Entry) -> Iterator[str]:
        yield from every_text(self._text(entry))

    def _text(self, entry: Entry) -> Text:
        key = self.config.caption_key
        value = required(entry.fields, key)
        if self.config.drop_empty and isinstance(value, list):
            value = [item for item in value if not is_empty(item)]
        return text_of(value, key, entry.code)


def picture_at(fields: Mapping[str, Any], config: EntriesConfig, file: str) -> str:
    """Where the picture of an entry is. Raises DataError if its field is missing or holds no path.

    Args:
        fields: of the entry.
        config: says where paths start.
        file: that holds the entry.
    """
    path = told_by = name_of(fields, config.image_key) + config.image_suffix
    if config.image_root_key is not None:
        value = fields.get(config.image_root_key, "")
        told_by = value if isinstance(value, str) else ""
    return config.picture_at(path, told_by, file)


def _decoded(value: Any, key: str) -> bytes:
    if not isinstance(value, str) or not value:
        raise DataError(f"{key}: expected text, found {shown(value)}", reason=Reason.FIELD_TYPE)
    return decode_base64(value, key)

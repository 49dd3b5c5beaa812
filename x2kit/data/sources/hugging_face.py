"""Records of Hugging Face `datasets` folders: one a row, read from the mapped file when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import datasets

from x2kit.data.sources.config import HuggingFaceDataset
from x2kit.data.sources.fields import box_of, every_text, name_of, shown, text_of
from x2kit.data.sources.splits import root_in_split
from x2kit.data.storage.limits import require_few_bytes
from x2kit.data.storage.url_policy import locate
from x2kit.errors import DataError, Reason, SettingError
from x2kit.plugin.sources import Place, Record, Region


class HuggingFaceSource:
    """The rows of one split."""

    def __init__(self, config: HuggingFaceDataset) -> None:
        self.config = config
        rows = _split_of(_loaded(config.folder), config)
        wanted = _columns(config)
        for setting, column in wanted.items():
            _feature(rows.features, setting, column)
        if config.image_column is not None and isinstance(rows.features[config.image_column], datasets.Image):
            # the bytes as they were saved: what decodes them caps their size and says what is wrong
            rows = rows.cast_column(config.image_column, datasets.Image(decode=False))
        if not len(rows):
            raise DataError(f"{config.folder}: no row in the split {config.split}")
        top = {column.split(".")[0] for column in wanted.values()}
        self._rows = _Rows(rows.select_columns(sorted(top)), config.folder)
        self._names = _label_names(rows.features, config.names_column)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        """The row at `index`. Raises DataError with folder, row and reason."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        row = self._rows[index]
        name = str(index)
        try:
            if self.config.id_column is not None:
                name = name_of(
                    {self.config.id_column: _at(row, self.config.id_column)}, self.config.id_column
                )
            record = self._texts(row)
            if self.config.image_column is not None:
                record["image"] = _image(row[self.config.image_column], self.config)
        except DataError as error:
            raise DataError(
                f"{self.config.folder} row {index}: {error}", reason=error.reason, record=name
            ) from error
        record["id"] = name
        return record

    def place(self, index: int) -> Place:
        """Folder and row, counted from 0 as `datasets` does."""
        return Place(f"{self.config.folder} row {index}")

    def texts(self) -> Iterator[str]:
        """Every text, row by row; no image is read."""
        rows = self._rows.without(self.config.image_column)
        for index in range(len(rows)):
            try:
                record = self._texts(rows[index])
            except DataError:
                continue  # the stream that draws it counts it as broken
            yield from every_text(record.get("caption", []))
            for region in record.get("regions", []):
                yield from every_text(region["caption"])
            yield from record.get("texts", {}).values()

    def fingerprint(self) -> str:
        """A hash of the settings that shape records, of the fingerprint of `datasets`, and of the number of rows."""
        settings = self.config.model_dump_json(exclude={"folder", "root"})
        facts = json.dumps([settings, _state(self.config), len(self)])
        return blake2b(facts.encode(), digest_size=8).hexdigest()

    def _texts(self, row: Mapping[str, Any]) -> Record:
        record: Record = {}
        column = self.config.caption_column
        if isinstance(column, dict):
            by_language = {code: _at(row, name) for code, name in column.items()}
            if self.config.texts == "parallel":
                record["texts"] = {code: _sentence(text, column[code]) for code, text in by_language.items()}
            else:
                record["caption"] = _captions(by_language, column)
        elif column is not None:
            record["caption"] = text_of(_at(row, column), column, self.config.language)
        if self.config.boxes_column is not None and self.config.names_column is not None:
            record["regions"] = self._regions(
                _at(row, self.config.boxes_column), _at(row, self.config.names_column)
            )
        return record

    def _regions(self, boxes: Any, names: Any) -> list[Region]:
        if not isinstance(boxes, list) or not isinstance(names, list) or len(boxes) != len(names):
            raise DataError(
                f"{self.config.boxes_column}, {self.config.names_column}: expected two lists of one length, "
                f"found {shown(boxes)} and {shown(names)}",
                reason=Reason.FIELD_TYPE,
            )
        regions: list[Region] = []
        for number, (value, name) in enumerate(zip(boxes, names, strict=True)):
            box = box_of(value, f"{self.config.boxes_column}[{number}]", None, self.config.outside == "clip")
            if self._names is not None and isinstance(name, int):
                name = self._label(name, f"{self.config.names_column}[{number}]")
            text = text_of(name, f"{self.config.names_column}[{number}]", self.config.language)
            if box is not None:
                regions.append({"bbox": box, "caption": text})
        return regions

    def _label(self, number: int, key: str) -> str:
        assert self._names is not None
        if not 0 <= number < len(self._names):  # -1 stands for no label
            raise DataError(
                f"{key}: {number} is no label; there are 0 to {len(self._names) - 1}",
                reason=Reason.FIELD_MISSING,
            )
        return self._names[number]


class _Rows:
    """Rows of a mapped Arrow file, each looked at before it is read: reading damaged bytes ends the process."""

    def __init__(self, rows: Any, folder: Path) -> None:
        self._rows, self._folder = rows, folder
        self._tables = rows.with_format("arrow")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Raises DataError with folder and row if it is damaged."""
        try:
            table = self._tables[index]
            table.validate(full=True)
            require_few_bytes(table.nbytes, "the row")
            row: dict[str, Any] = self._rows[index]
        except DataError as error:
            raise DataError(f"{self._folder} row {index}: {error}", reason=error.reason) from error
        except Exception as error:  # a damaged Arrow file makes its reader raise nearly anything
            raise DataError(
                f"{self._folder} row {index}: cannot be read: {error}", reason=Reason.FILE_UNREADABLE
            ) from error
        return row

    def without(self, column: str | None) -> _Rows:
        """The same rows, one column not read."""
        return self if column is None else _Rows(self._rows.remove_columns([column]), self._folder)


def _loaded(folder: Path) -> Any:
    try:
        return datasets.load_from_disk(str(folder))
    except Exception as error:  # a folder of another kind makes its readers raise nearly anything
        raise DataError(
            f"{folder}: no folder that datasets saved: {error}", reason=Reason.FILE_UNREADABLE
        ) from error


def _split_of(loaded: Any, config: HuggingFaceDataset) -> Any:
    if not isinstance(loaded, datasets.DatasetDict):
        own = str(loaded.split) if loaded.split is not None else config.split
        if own != config.split:
            raise SettingError(
                "split", f"{config.folder} is the split {own!r}, and {config.split!r} is asked for"
            )
        return loaded
    if config.split not in loaded:
        raise SettingError(
            "split", f"{config.folder} has no split {config.split!r}; it has {', '.join(loaded)}"
        )
    return loaded[config.split]


def _columns(config: HuggingFaceDataset) -> dict[str, str]:
    """The columns that are read, by the setting that names each."""
    single = {
        key: getattr(config, key) for key in ("image_column", "boxes_column", "names_column", "id_column")
    }
    captions = config.caption_column
    many = (
        {f"caption_column.{code}": name for code, name in captions.items()}
        if isinstance(captions, dict)
        else {}
    )
    if isinstance(captions, str):
        many = {"caption_column": captions}
    return {key: name for key, name in {**single, **many}.items() if name is not None}


def _feature(features: Any, setting: str, column: str) -> Any:
    """The feature of a column. Raises SettingError if there is none."""
    found = features
    for part in column.split("."):
        while isinstance(found, datasets.List | datasets.LargeList):
            found = found.feature
        if not isinstance(found, Mapping) or part not in found:
            raise SettingError(setting, f"no column {column!r}; the columns are {', '.join(features)}")
        found = found[part]
    return found


def _label_names(features: Any, column: str | None) -> list[str] | None:
    if column is None:
        return None
    found = _feature(features, "names_column", column)
    while isinstance(found, datasets.List | datasets.LargeList):
        found = found.feature
    return list(found.names) if isinstance(found, datasets.ClassLabel) else None


def _at(row: Any, column: str) -> Any:
    """What a column holds in a row; of a list of structs, the list of what each holds. Null holds null."""
    found = row
    for part in column.split("."):
        found = [_in(each, part) for each in found] if isinstance(found, list) else _in(found, part)
    return found


def _in(struct: Any, part: str) -> Any:
    return None if struct is None else struct[part]


def _captions(by_language: Mapping[str, Any], columns: Mapping[str, str]) -> Any:
    there = {code: text for code, text in by_language.items() if text is not None}
    if not there:
        raise DataError(
            f"{', '.join(columns.values())}: no text in any language", reason=Reason.LANGUAGE_MISSING
        )
    if all(isinstance(text, str) for text in there.values()):
        return {code: _sentence(text, columns[code]) for code, text in there.items()}
    return [
        {code: _sentence(text, columns[code])}
        for code, texts in there.items()
        for text in (texts if isinstance(texts, list) else [texts])
    ]


def _sentence(value: Any, column: str) -> str:
    text = text_of(value, column, None)
    if not isinstance(text, str):
        raise DataError(f"{column}: expected one text, found {shown(value)}", reason=Reason.FIELD_TYPE)
    return text


def _image(value: Any, config: HuggingFaceDataset) -> Any:
    if isinstance(value, Mapping):  # of an Image feature
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes) and value:
        return value
    if isinstance(value, str) and value:
        start = str(config.folder)
        root = True if config.root is None else root_in_split(config.root, config.split)
        return locate(value, start, (), root, start)
    raise DataError(
        f"{config.image_column}: expected an image, bytes or a path, found {shown(value)}",
        reason=Reason.FIELD_TYPE,
    )


def _state(config: HuggingFaceDataset) -> Any:
    """What `datasets` wrote of the rows; it is another one for other rows."""
    folders = (config.folder / config.split, config.folder)
    file = next(each / "state.json" for each in folders if (each / "state.json").is_file())
    return json.loads(file.read_text(encoding="utf-8"))

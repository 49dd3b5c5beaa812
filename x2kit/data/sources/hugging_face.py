"""Read records from folders of Hugging Face `datasets`, one a row, each on access."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets

from x2kit.data.sources.fields import (
    as_list,
    check_answers,
    check_box,
    check_label,
    check_options,
    check_sentence,
    check_text,
    record_texts,
    short_repr,
    str_field,
)
from x2kit.data.sources.splits import root_in_split
from x2kit.data.storage.limits import check_size
from x2kit.data.storage.url_policy import locate
from x2kit.errors import DataError, Reason, SettingError
from x2kit.plugin.sources import Place, Record, Region

if TYPE_CHECKING:
    from x2kit.data.sources.config import HuggingFaceDataset


class HuggingFaceSource:
    """The rows of one split of a folder."""

    def __init__(self, config: HuggingFaceDataset) -> None:
        self.config = config
        rows = _split_of(_load(config.folder), config)
        columns = _columns(config)
        for setting, column in columns.items():
            _feature(rows.features, setting, column)
        if config.image_column is not None and isinstance(rows.features[config.image_column], datasets.Image):
            # undecoded: our image reader limits their size and explains errors
            rows = rows.cast_column(config.image_column, datasets.Image(decode=False))
        if not len(rows):
            raise DataError(f"{config.folder}: split {config.split!r} has no rows")
        top = {column.split(".")[0] for column in columns.values()}
        self._rows = _Rows(rows.select_columns(sorted(top)), config.folder)
        self._names = _label_names(rows.features, "names_column", config.names_column)
        self._labels = _label_names(rows.features, "label_column", config.label_column)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        """Read the row at `index`. Raises DataError with folder, row and reason."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        row = self._rows[index]
        name = str(index)
        try:
            if self.config.id_column is not None:
                value = _at(row, self.config.id_column)
                name = str_field({self.config.id_column: value}, self.config.id_column)
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
        """Return folder and row, counted from 0 as in `datasets`."""
        return Place(f"{self.config.folder} row {index}")

    def texts(self) -> Iterator[str]:
        """Yield every text, row by row; images are not read."""
        rows = self._rows.without(self.config.image_column)
        for index in range(len(rows)):
            try:
                record = self._texts(rows[index])
            except DataError:
                continue  # counted when the record is drawn
            yield from record_texts(record)

    def fingerprint(self) -> str:
        """Hash the settings that change records, the fingerprint of `datasets` and the number of rows."""
        settings = self.config.model_dump_json(exclude={"folder", "root"})
        folders = (self.config.folder / self.config.split, self.config.folder)
        file = next(each / "state.json" for each in folders if (each / "state.json").is_file())
        state = json.loads(file.read_text(encoding="utf-8"))  # differs for other rows
        facts = json.dumps([settings, state, len(self)])
        return blake2b(facts.encode(), digest_size=8).hexdigest()

    def _texts(self, row: Mapping[str, Any]) -> Record:
        record: Record = {}
        column = self.config.caption_column
        if isinstance(column, dict):
            by_language = {code: _at(row, name) for code, name in column.items()}
            if self.config.texts == "parallel":
                record["texts"] = {
                    code: check_sentence(text, column[code]) for code, text in by_language.items()
                }
            else:
                record["caption"] = _captions(by_language, column)
        elif column is not None:
            record["caption"] = check_text(_at(row, column), column, self.config.language)
        self._add_task_fields(record, row)
        if self.config.boxes_column is not None and self.config.names_column is not None:
            record["regions"] = self._regions(
                _at(row, self.config.boxes_column), _at(row, self.config.names_column)
            )
        return record

    def _add_task_fields(self, record: Record, row: Mapping[str, Any]) -> None:
        config = self.config
        if isinstance(config.question_column, dict):
            columns = config.question_column
            record["question"] = _captions({code: _at(row, name) for code, name in columns.items()}, columns)
        elif config.question_column is not None:
            value = _at(row, config.question_column)
            record["question"] = check_text(value, config.question_column, config.language)
        if config.options_column is not None:
            value = _at(row, config.options_column)
            record["options"] = check_options(value, config.options_column, config.language)
        value = None if config.answers_column is None else _at(row, config.answers_column)
        if value is not None and (answers := check_answers(value, str(config.answers_column))) is not None:
            record["answers"] = answers
        if (key := config.label_column) is not None and (value := _at(row, key)) is not None:
            named = isinstance(value, int) and self._labels is not None
            record["label"] = self._label(value, key, self._labels) if named else check_label(value, key)

    def _regions(self, boxes: Any, names: Any) -> list[Region]:
        if not isinstance(boxes, list) or not isinstance(names, list) or len(boxes) != len(names):
            raise DataError(
                f"{self.config.boxes_column}, {self.config.names_column}: expected two lists of one length, "
                f"found {short_repr(boxes)} and {short_repr(names)}",
                reason=Reason.FIELD_TYPE,
            )
        regions: list[Region] = []
        for number, (value, name) in enumerate(zip(boxes, names, strict=True)):
            box = check_box(
                value, f"{self.config.boxes_column}[{number}]", None, self.config.outside == "clip"
            )
            if self._names is not None and isinstance(name, int):
                name = self._label(name, f"{self.config.names_column}[{number}]", self._names)
            text = check_text(name, f"{self.config.names_column}[{number}]", self.config.language)
            if box is not None:
                regions.append({"bbox": box, "caption": text})
        return regions

    def _label(self, number: int, key: str, names: Sequence[str] | None) -> str:
        assert names is not None
        if not 0 <= number < len(names):  # -1 is no label
            raise DataError(
                f"{key}: no label {number}; the labels are 0 to {len(names) - 1}", reason=Reason.FIELD_MISSING
            )
        return names[number]


class _Rows:
    """Rows of a mapped Arrow file, each validated before it is read: damaged bytes crash the process."""

    def __init__(self, rows: Any, folder: Path) -> None:
        self._rows, self._folder = rows, folder
        self._tables = rows.with_format("arrow")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read a row. Raises DataError, with folder and row, if it is damaged."""
        try:
            table = self._tables[index]
            table.validate(full=True)
            check_size(table.nbytes, "the row")
            row: dict[str, Any] = self._rows[index]
        except DataError as error:
            raise DataError(f"{self._folder} row {index}: {error}", reason=error.reason) from error
        except Exception as error:  # the reader raises nearly any error on a damaged file
            raise DataError(
                f"{self._folder} row {index}: cannot be read: {error}", reason=Reason.FILE_UNREADABLE
            ) from error
        return row

    def without(self, column: str | None) -> _Rows:
        """Return the same rows without a column."""
        return self if column is None else _Rows(self._rows.remove_columns([column]), self._folder)


def _load(folder: Path) -> Any:
    try:
        return datasets.load_from_disk(str(folder))
    except Exception as error:  # the readers raise nearly any error on another folder
        raise DataError(
            f"{folder}: no folder saved by datasets: {error}", reason=Reason.FILE_UNREADABLE
        ) from error


def _split_of(loaded: Any, config: HuggingFaceDataset) -> Any:
    if not isinstance(loaded, datasets.DatasetDict):
        split = str(loaded.split) if loaded.split is not None else config.split
        if split != config.split:
            raise SettingError("split", f"{config.folder} has split {split!r} alone, found {config.split!r}")
        return loaded
    if config.split not in loaded:
        raise SettingError(
            "split", f"{config.folder} has no split {config.split!r}; it has {', '.join(loaded)}"
        )
    return loaded[config.split]


def _columns(config: HuggingFaceDataset) -> dict[str, str]:
    """Return the columns to read by the setting that names each."""
    keys = (
        *("image_column", "boxes_column", "names_column", "id_column"),
        *("answers_column", "options_column", "label_column"),
    )
    columns: dict[str, str | None] = {key: getattr(config, key) for key in keys}
    for key in ("caption_column", "question_column"):
        found = getattr(config, key)
        if isinstance(found, dict):
            columns |= {f"{key}.{code}": name for code, name in found.items()}
        else:
            columns[key] = found
    return {key: name for key, name in columns.items() if name is not None}


def _feature(features: Any, setting: str, column: str) -> Any:
    """Return the feature of a column. Raises SettingError for an unknown column."""
    found = features
    for part in column.split("."):
        while isinstance(found, datasets.List | datasets.LargeList):
            found = found.feature
        if not isinstance(found, Mapping) or part not in found:
            raise SettingError(setting, f"no column {column!r}; the columns are {', '.join(features)}")
        found = found[part]
    return found


def _label_names(features: Any, setting: str, column: str | None) -> list[str] | None:
    """Return the names of a ClassLabel column; None for another."""
    if column is None:
        return None
    found = _feature(features, setting, column)
    while isinstance(found, datasets.List | datasets.LargeList):
        found = found.feature
    return list(found.names) if isinstance(found, datasets.ClassLabel) else None


def _at(row: Any, column: str) -> Any:
    """Return the value of a column in a row; of a list of structs, the list of values. Null stays null."""
    value = row
    for part in column.split("."):
        if isinstance(value, list):
            value = [None if struct is None else struct[part] for struct in value]
        else:
            value = None if value is None else value[part]
    return value


def _captions(by_language: Mapping[str, Any], columns: Mapping[str, str]) -> Any:
    texts_by_code = {code: text for code, text in by_language.items() if text is not None}
    if not texts_by_code:
        raise DataError(
            f"{', '.join(columns.values())}: no text in any language", reason=Reason.LANGUAGE_MISSING
        )
    if all(isinstance(text, str) for text in texts_by_code.values()):
        return {code: check_sentence(text, columns[code]) for code, text in texts_by_code.items()}
    return [
        {code: check_sentence(text, columns[code])}
        for code, texts in texts_by_code.items()
        for text in as_list(texts)
    ]


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
        f"{config.image_column}: expected an image, bytes or a path, found {short_repr(value)}",
        reason=Reason.FIELD_TYPE,
    )

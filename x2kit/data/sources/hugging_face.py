"""Settings of Hugging Face `datasets` folders on disk. Imports no torch, and `datasets` only when it is opened."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from x2kit.data import files
from x2kit.data.sources.listing import check_root
from x2kit.errors import SettingError
from x2kit.plugin.components import Location, SourceConfig
from x2kit.plugin.on_resume import FROM_HERE, HARMLESS

if TYPE_CHECKING:
    from x2kit.plugin.sources import Source


class HuggingFaceDataset(SourceConfig):
    """Rows of a folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote; needs the extra `datasets`."""

    folder: Annotated[Path, HARMLESS] = Field(
        description="the folder; of a DatasetDict it has one folder for each split"
    )
    split: str = Field("train", min_length=1, description="the split that is read of a DatasetDict")
    root: Annotated[Location | bool | None, FROM_HERE] = Field(
        None,
        description="folder that paths of pictures in rows may not leave, symbolic links resolved; true or null for "
        "the folder of the rows, false for none",
    )
    image_column: str | None = Field(
        "image", description="column of the picture: an Image feature, bytes or a path; null for texts alone"
    )
    caption_column: str | dict[str, str] | None = Field(
        None,
        description="column of the text or the texts, or one for each language: {en: english}; null for none",
    )
    texts: Literal["caption", "parallel"] = Field(
        "caption",
        description="what columns by language are: captions of the picture, or parallel sentences without one",
    )
    boxes_column: str | None = Field(
        None, description="column of the boxes of a row, dots lead inwards: objects.bbox; null for none"
    )
    names_column: str | None = Field(
        None, description="column of their texts, also a ClassLabel, whose names are taken: objects.category"
    )
    id_column: str | None = Field(
        None, description="column that names a record; null for the number of the row"
    )
    outside: Literal["refuse", "clip"] = Field(
        "refuse",
        description="boxes without an area: the record is broken (refuse), or they are left out (clip)",
    )
    language: str | None = Field(
        None, description="code of the language of texts that are written without one"
    )

    @model_validator(mode="after")
    def _columns_fit(self) -> HuggingFaceDataset:
        if self.caption_column is None and self.boxes_column is None:
            raise ValueError("caption_column, boxes_column: name at least one")
        if (self.boxes_column is None) != (self.names_column is None):
            raise ValueError("boxes_column and names_column: name both or none")
        if self.texts == "parallel" and not isinstance(self.caption_column, dict):
            raise ValueError("texts: parallel sentences need caption_column by language")
        return self

    def check(self) -> None:
        """Raise SettingError if `datasets` is not installed, or there is no such folder."""
        if find_spec("datasets") is None:
            raise SettingError("folder", "needs the package datasets: pip install 'x2kit[datasets]'")
        if not self.folder.is_dir():
            raise SettingError("folder", f"no folder {self.folder}{files.nearest_to(str(self.folder))}")
        check_root(self.root, self.split)

    def languages(self) -> tuple[str, ...] | None:
        """The languages that the settings name; None if they name none."""
        if isinstance(self.caption_column, dict):
            return tuple(self.caption_column)
        return None if self.language is None else (self.language,)

    def open(self) -> Source:
        """The rows. Raises SettingError for a missing package, folder or column, DataError for another folder."""
        self.check()
        from x2kit.data.sources.hugging_face_records import HuggingFaceSource

        return HuggingFaceSource(self)

"""Settings of annotation files: entries that each name a picture and say something of it. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from x2kit.data.addresses import ROOT, check_hosts, locate
from x2kit.data.files import folder_of
from x2kit.data.sources.listing import (
    check_folders,
    check_root,
    check_split,
    files_at,
    in_split,
    root_in_split,
)
from x2kit.errors import DataError, Reason, SettingError
from x2kit.plugin.components import Location, SourceConfig
from x2kit.plugin.on_resume import FROM_HERE, HARMLESS

if TYPE_CHECKING:
    from x2kit.plugin.sources import Source

Files = tuple[Location, ...] | dict[str, tuple[Location, ...]]


class EntriesConfig(SourceConfig):
    """What all sources share whose files are lists of entries."""

    files: Annotated[Files, HARMLESS] = Field(
        min_length=1,
        description="files, patterns or folders, or such by language: {en: [test.en.json], de: [test.de.json]}; each "
        "a JSON list, a JSON object of objects or JSON Lines; {split} in a path stands for the split",
    )
    split: str = Field("train", min_length=1, description="what {split} in a path stands for")
    image_root: Annotated[Location | dict[str, Location] | None, HARMLESS] = Field(
        None,
        description="where paths of pictures start; null for the folder of the file. By name, the first whose name "
        'occurs in the path is taken: {COCO: coco, "": flickr30k}, where "" occurs in every path',
    )
    image_hosts: tuple[str, ...] = Field(
        (),
        description="scheme and host, perhaps with a folder, of URLs that may stand in place of a picture's path: "
        "https://images.example.org; none by default",
    )
    root: Annotated[Location | bool | None, FROM_HERE] = Field(None, description=ROOT)
    image_root_key: str | None = Field(
        None, description="field in which the names of image_root are looked for; null for the picture's path"
    )
    image_key: str = Field("image", description="the field of the picture")
    image_suffix: str = Field(
        "", description="what is put behind the path of a picture: .jpg where a field holds a bare number"
    )
    id_key: str | None = Field(
        None, description="the field that names a record; null for its file and its place there"
    )
    language: str | None = Field(
        None, description="code of the language of texts that are written without one"
    )

    def check(self) -> None:
        """Raise SettingError if a path leads to no file, or the folder of pictures is missing."""
        self.paths()
        roots = self.image_root if isinstance(self.image_root, dict) else {"": self.image_root}
        check_folders("image_root", [in_split(root, self.split) for root in roots.values() if root])
        check_hosts("image_hosts", self.image_hosts)
        check_root(self.root, self.split)
        if self.image_root_key is not None and not isinstance(self.image_root, dict):
            raise SettingError("image_root_key", "image_root has no names that could be looked for")

    def languages(self) -> tuple[str, ...] | None:
        """The languages that the settings name; None if they name none."""
        if isinstance(self.files, dict):
            return tuple(self.files)
        return None if self.language is None else (self.language,)

    def for_split(self, split: str) -> Self:
        """The files of another split. Raises SettingError if no path has `{split}` in it."""
        check_split(self, split, [path for paths in self._by_language().values() for path in paths])
        return super().for_split(split)

    def paths(self) -> list[tuple[str, str | None]]:
        """The files in order, each once, with the language of its texts. Raises SettingError if one is missing."""
        return [
            (path, code)
            for code, paths in self._by_language().items()
            for path in files_at("files", paths, self.split)
        ]

    def picture_at(self, path: str, told_by: str, file: str) -> str:
        """Where a picture is.

        Args:
            path: as the file has it, with its suffix.
            told_by: what `image_root_key` holds; the path where that is null.
            file: that names the picture.
        Raises: DataError if no name of `image_root` occurs in `told_by`, or it leads where it may not.
        """
        if not isinstance(self.image_root, dict):
            start = folder_of(file) if self.image_root is None else self.image_root
            return self._located(path, start, file)
        for name, start in self.image_root.items():
            if name in told_by:
                return self._located(path, start, file)
        raise DataError(
            f'image_root: none of {", ".join(self.image_root)} occurs in {told_by!r}; the name "" would',
            reason=Reason.FILE_MISSING,
        )

    def _located(self, path: str, start: Location, file: str) -> str:
        root = root_in_split(self.root, self.split)
        return locate(path, in_split(start, self.split), self.image_hosts, root, file)

    def _by_language(self) -> dict[str | None, tuple[Location, ...]]:
        return dict(self.files.items()) if isinstance(self.files, dict) else {self.language: self.files}


class AnnotationFiles(EntriesConfig):
    """Pictures with captions in JSON lists or lines: fine-tuning and test files, one for all languages or for each."""

    image_as: Literal["path", "base64"] = Field("path", description="what the field of the picture holds")
    caption_key: str = Field("caption", description="the field of the text or the texts")
    languages_held: tuple[str, ...] | None = Field(
        None, description="codes of all languages of the texts; null for those that files and language name"
    )
    one_record: Literal["picture", "entry"] = Field(
        "picture",
        description="what a record is: a picture with the texts of all its entries, in all languages, or one entry",
    )
    same_picture_key: str | None = Field(
        None, description="the field that is equal where the picture is; null for that of the picture"
    )
    drop_empty: bool = Field(
        False,
        description="leave out entries that have no text in their field, which are counted in the log; else they are "
        "broken records",
    )
    keep: tuple[str, ...] = Field(
        (), description="further fields that records keep as they are; for records of one entry"
    )

    @model_validator(mode="after")
    def _kept_fields_are_of_one_entry(self) -> Self:
        if self.keep and self.one_record == "picture":
            raise ValueError("keep: a picture has several entries; set one_record: entry")
        return self

    def languages(self) -> tuple[str, ...] | None:
        """The languages that the settings name; None if they name none."""
        return self.languages_held or super().languages()

    def open(self) -> Source:
        """The records. Raises SettingError for missing files, DataError for files that hold none."""
        from x2kit.data.sources.annotation_records import AnnotationSource

        return AnnotationSource(self)

"""Settings of tar shards in the layout of webdataset. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field

from x2kit.data.sources.listing import check_split, files_at
from x2kit.plugin.components import Location, SourceConfig
from x2kit.plugin.on_resume import HARMLESS

if TYPE_CHECKING:
    from x2kit.data.tar_shards_source import TarShardsSource


class TarShards(SourceConfig):
    """Records in tar files: the files of one key side by side, 00012.jpg, 00012.txt, 00012.json (webdataset)."""

    files: Annotated[tuple[Location, ...], HARMLESS] = Field(
        min_length=1,
        description="shards, patterns like shard-*.tar, or folders; local, or URLs like s3://bucket/shard-*.tar; "
        "{split} in a path stands for the split",
    )
    split: str = Field("train", min_length=1, description="what {split} in a path stands for")
    image_parts: tuple[str, ...] = Field(
        ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "npy", "img"),
        description="endings of pictures; the first that a record has is taken",
    )
    caption_parts: tuple[str, ...] = Field(
        ("txt", "caption", "text"), description="endings of the text; the first that a record has is taken"
    )
    fields_part: str = Field(
        "json",
        description="ending of a JSON object with further fields, as JsonLines reads them; its caption counts where "
        "there is no text beside it",
    )
    caption_key: str | None = Field(
        None, description="the field of the text in that object; null for caption, else desc, else text"
    )
    class_names: tuple[str, ...] | None = Field(
        None, description="names of the classes by number; the caption of records with a cls file and no text"
    )
    language: str | None = Field(
        None, description="code of the language of texts that are written without one"
    )
    languages_held: tuple[str, ...] | None = Field(
        None, description="codes of all languages of the texts; null for `language` alone where that is given"
    )

    def check(self) -> None:
        """Raise SettingError if a path leads to no file."""
        self.paths()

    def languages(self) -> tuple[str, ...] | None:
        """The languages that the settings name; None if they name none."""
        if self.languages_held is not None:
            return self.languages_held
        return None if self.language is None else (self.language,)

    def open(self) -> TarShardsSource:
        """The records. Raises SettingError for missing files, DataError for files without records."""
        from x2kit.data.tar_shards_source import TarShardsSource

        return TarShardsSource(self)

    def for_split(self, split: str) -> Self:
        """The shards of another split. Raises SettingError if no path has `{split}` in it."""
        check_split(self, split, self.files)
        return super().for_split(split)

    def paths(self) -> list[str]:
        """The shards, in order, each once. Raises SettingError for a path that leads to none."""
        return files_at("files", self.files, self.split)

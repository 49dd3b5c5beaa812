"""Settings of tar shards in the layout of webdataset. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from x2kit.data.sources.split_files import SplitFiles
from x2kit.plugin.components import Location
from x2kit.plugin.on_resume import HARMLESS

if TYPE_CHECKING:
    from x2kit.data.tar_shards_source import TarShardsSource


class TarShards(SplitFiles):
    """Records in tar files: the files of one key side by side, 00012.jpg, 00012.txt, 00012.json (webdataset)."""

    files: Annotated[tuple[Location, ...], HARMLESS] = Field(
        min_length=1,
        description="shards, patterns like shard-*.tar or shard-{000..127}.tar, or folders; local, or URLs like "
        "s3://bucket/shard-*.tar; {split} in a path stands for the split",
    )
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

    def languages(self) -> tuple[str, ...] | None:
        """The languages that the settings name; None if they name none."""
        if self.languages_held is not None:
            return self.languages_held
        return None if self.language is None else (self.language,)

    def open(self) -> TarShardsSource:
        """The records. Raises SettingError for missing files, DataError for files without records."""
        from x2kit.data.tar_shards_source import TarShardsSource

        return TarShardsSource(self)

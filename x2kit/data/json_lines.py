"""Settings of JSON Lines files: one record a line, in own fields or the official ones. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from x2kit.data.addresses import ROOT, check_hosts
from x2kit.data.sources.listing import check_folders, check_root, in_split
from x2kit.data.sources.split_files import SplitFiles
from x2kit.plugin.components import Location
from x2kit.plugin.on_resume import FROM_HERE, HARMLESS

if TYPE_CHECKING:
    from x2kit.data.json_lines_source import JsonLinesSource


class JsonLines(SplitFiles):
    """Records in JSON Lines files: pictures and videos as base64 or paths, texts in one or many languages, boxes."""

    files: Annotated[tuple[Location, ...], HARMLESS] = Field(
        min_length=1,
        description="files, patterns like part-*.jsonl or part-{00..31}.jsonl, or folders, whose files are read in the "
        "order of their names; plain or compressed (.gz, extra gzip), "
        "local, or URLs like s3://bucket/part-*.jsonl; {split} in a path stands for the split",
    )
    image_root: Annotated[Location | None, HARMLESS] = Field(
        None,
        description="where paths of pictures start, {split} allowed; null for the folder of the records",
    )
    image_hosts: tuple[str, ...] = Field(
        (),
        description="what URLs in the records may begin with: https://images.example.org, s3://bucket/folder; "
        "a record with any other URL is broken",
    )
    root: Annotated[Location | bool | None, FROM_HERE] = Field(None, description=ROOT)
    image_key: str | None = Field(None, description="the field of the picture; null for image, else binary")
    image_as: Literal["path", "base64"] | None = Field(
        None, description="what that field holds; null for base64 in the field binary, a path in any other"
    )
    video_key: str | None = Field(
        None, description="the field of the video; null for video, else video_frames, where there is one"
    )
    video_as: Literal["path", "base64"] | None = Field(
        None,
        description="what that field holds, for the whole or for each frame of a list; null for base64 in the field "
        "video_frames, a path in any other",
    )
    caption_key: str | None = Field(
        None, description="the field of the text; null for caption, else desc, else text"
    )
    pair_languages: tuple[str, str] = Field(
        ("source", "target"), description="language codes of the official fields source_text and target_text"
    )
    language: str | None = Field(
        None, description="code of the language of texts that are written without one"
    )
    languages_held: tuple[str, ...] | None = Field(
        None, description="codes of all languages of the texts; null for `language` alone where that is given"
    )

    def check(self) -> None:
        """Raise SettingError if a path leads to no file, or the folder of pictures is missing."""
        super().check()
        start = self.paths_start()
        check_folders("image_root", [] if start is None else [start])
        check_hosts("image_hosts", self.image_hosts)
        check_root(self.root, self.split)

    def languages(self) -> tuple[str, ...] | None:
        """The languages that the settings name; None if they name none."""
        if self.languages_held is not None:
            return self.languages_held
        return None if self.language is None else (self.language,)

    def open(self) -> JsonLinesSource:
        """The records. Raises SettingError for missing files, DataError for files without records."""
        from x2kit.data.json_lines_source import JsonLinesSource

        return JsonLinesSource(self)

    def paths_start(self) -> str | None:
        """Where paths of pictures start."""
        return None if self.image_root is None else in_split(self.image_root, self.split)

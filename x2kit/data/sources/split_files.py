"""Settings of sources whose records lie in files of one split. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field

from x2kit.data.sources.listing import check_split, files_at
from x2kit.plugin.components import Location, SourceConfig
from x2kit.plugin.on_resume import HARMLESS


class SplitFiles(SourceConfig):
    """Records in files; a subclass says of what layout, and opens them."""

    files: Annotated[tuple[Location, ...], HARMLESS] = Field(
        min_length=1, description="files, patterns or folders; {split} in a path stands for the split"
    )
    split: str = Field("train", min_length=1, description="what {split} in a path stands for")

    def check(self) -> None:
        """Raise SettingError if a path leads to no file."""
        self.paths()

    def for_split(self, split: str) -> Self:
        """The files of another split. Raises SettingError if no path has `{split}` in it."""
        check_split(self, split, self.files)
        return super().for_split(split)

    def paths(self) -> list[str]:
        """The files in order, each once. Raises SettingError for a path that leads to none."""
        return files_at("files", self.files, self.split)

"""Settings of annotations in the layout of COCO. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from x2kit.data.addresses import ROOT, check_hosts
from x2kit.data.sources.listing import check_folders, check_root, in_split
from x2kit.data.sources.split_files import SplitFiles
from x2kit.plugin.components import Location
from x2kit.plugin.on_resume import FROM_HERE, HARMLESS

if TYPE_CHECKING:
    from x2kit.plugin.sources import Source


class CocoAnnotations(SplitFiles):
    """Pictures with captions and named boxes from files in the layout of COCO: instances, captions or both."""

    files: Annotated[tuple[Location, ...], HARMLESS] = Field(
        min_length=1,
        description="files with images and annotations: with bbox and category_id (regions) or caption; several meet "
        "at the id of the image; {split} in a path stands for the split",
    )
    image_root: Annotated[Location | None, HARMLESS] = Field(
        None, description="where file_name starts, {split} allowed; null for the folder of the first file"
    )
    image_hosts: tuple[str, ...] = Field(
        (),
        description="scheme and host, perhaps with a folder, of URLs that may stand in place of a picture's path: "
        "https://images.example.org; none by default",
    )
    root: Annotated[Location | bool | None, FROM_HERE] = Field(None, description=ROOT)
    categories: tuple[str, ...] | None = Field(
        None, description="names of the categories whose boxes are read; null for all"
    )
    crowd: Literal["drop", "keep"] = Field(
        "drop", description="what happens with boxes around crowds (iscrowd)"
    )
    outside: Literal["refuse", "clip"] = Field(
        "refuse",
        description="boxes that reach over their picture by more than a pixel or have no area: the record is broken "
        "(refuse), or they are cut off and left out where nothing remains (clip)",
    )
    language: str | None = Field(None, description="code of the language of captions and names")

    def check(self) -> None:
        """Raise SettingError if a path leads to no file, or the folder of pictures is missing."""
        super().check()
        check_hosts("image_hosts", self.image_hosts)
        check_root(self.root, self.split)
        if self.image_root is not None:
            check_folders("image_root", [in_split(self.image_root, self.split)])

    def languages(self) -> tuple[str, ...] | None:
        """The language of the settings, if they name one."""
        return None if self.language is None else (self.language,)

    def open(self) -> Source:
        """The records. Raises SettingError for missing files, DataError for files of another layout."""
        from x2kit.data.sources.coco_records import CocoSource

        return CocoSource(self)

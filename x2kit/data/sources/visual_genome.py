"""Settings of annotations in the layout of Visual Genome. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from x2kit.data.addresses import ROOT
from x2kit.data.sources.listing import check_folders, check_root, files_at
from x2kit.plugin.components import Location, SourceConfig
from x2kit.plugin.on_resume import FROM_HERE, HARMLESS

if TYPE_CHECKING:
    from x2kit.plugin.sources import Source


class VisualGenomeAnnotations(SourceConfig):
    """Pictures with described regions and named objects from files in the layout of Visual Genome."""

    images: Annotated[Location, HARMLESS] = Field(
        description="image_data.json: the pictures, with their sizes"
    )
    files: Annotated[tuple[Location, ...], HARMLESS] = Field(
        min_length=1,
        description="one or several of region_descriptions.json (a region's phrase), objects.json (an object's names) "
        "and attributes.json (each attribute put before each name); an object of two files counts once",
    )
    image_root: Annotated[Location, HARMLESS] = Field(description="the folder of the folders of pictures")
    root: Annotated[Location | bool | None, FROM_HERE] = Field(None, description=ROOT)
    picture_at: Literal["url", "id"] = Field(
        "url",
        description="where a picture is under image_root: at the last folder and the name of its url "
        "(VG_100K_2/1.jpg), or at its image_id (1.jpg)",
    )
    outside: Literal["refuse", "clip"] = Field(
        "refuse",
        description="boxes that reach over their picture by more than a pixel or have no area: the record is broken "
        "(refuse), or they are cut off and left out where nothing remains (clip)",
    )
    language: str | None = Field(None, description="code of the language of all texts")

    def check(self) -> None:
        """Raise SettingError if a path leads to no file, or the folder of pictures is missing."""
        files_at("images", [self.images], "")
        self.paths()
        check_folders("image_root", [self.image_root])
        check_root(self.root, "")

    def languages(self) -> tuple[str, ...] | None:
        """The language of the settings, if they name one."""
        return None if self.language is None else (self.language,)

    def paths(self) -> list[str]:
        """The files of regions and objects, in order. Raises SettingError if one is missing."""
        return files_at("files", self.files, "")

    def open(self) -> Source:
        """The records. Raises SettingError for missing files, DataError for files of another layout."""
        from x2kit.data.sources.visual_genome_records import VisualGenomeSource

        return VisualGenomeSource(self)

"""Settings of referring expressions: texts that each name one box of a picture. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from x2kit.data.sources.annotation_files import EntriesConfig
from x2kit.data.sources.listing import files_at
from x2kit.plugin.components import Location
from x2kit.plugin.on_resume import HARMLESS

if TYPE_CHECKING:
    from x2kit.plugin.sources import Source


class ReferringExpressions(EntriesConfig):
    """Pictures with texts that name boxes, as RefCOCO+ has them; the boxes are in the entries or in the release.

    The release of REFER has a pickle of references and an instances.json; the pickle is read without running
    anything in it.
    """

    text_key: str = Field("text", description="the field of the text or the texts")
    bbox_key: str = Field(
        "bbox", description="the field of the box [x, y, width, height], where no release is named"
    )
    refs: Annotated[Location | None, HARMLESS] = Field(
        None, description="the pickle of references, refs(unc).p; null where entries have boxes of their own"
    )
    instances: Annotated[Location | None, HARMLESS] = Field(
        None, description="instances.json, which has the boxes of the references"
    )
    refs_split: str | None = Field(
        None, description="read the entries of this split of the references alone: testA, testB; null for all"
    )
    outside: Literal["refuse", "clip"] = Field(
        "refuse",
        description="boxes that reach over their picture by more than a pixel, where its size is told: the record is "
        "broken (refuse), or they are cut off and left out where nothing remains (clip)",
    )

    @model_validator(mode="after")
    def _the_release_is_whole(self) -> Self:
        if (self.refs is None) != (self.instances is None):
            raise ValueError("refs and instances are of one release: name both or none")
        if self.refs is None and self.refs_split is not None:
            raise ValueError("refs_split: the splits are told by refs, which is not named")
        return self

    def check(self) -> None:
        """Raise SettingError if a path leads to no file, or the folder of pictures is missing."""
        super().check()
        for setting, location in (("refs", self.refs), ("instances", self.instances)):
            if location is not None:
                files_at(setting, [location], self.split)

    def open(self) -> Source:
        """The records. Raises SettingError for missing files, DataError for files of another layout."""
        from x2kit.data.sources.referring_records import ReferringSource

        return ReferringSource(self)

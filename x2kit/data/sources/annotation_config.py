"""Settings of annotation files: entries that each name an image and say something of it. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from x2kit.data.sources.splits import (
    SplitFiles,
    check_folders,
    check_root,
    check_split,
    files_at,
    in_split,
    root_in_split,
)
from x2kit.data.storage.files import folder_of
from x2kit.data.storage.url_policy import ROOT, check_hosts, locate
from x2kit.errors import DataError, Reason, SettingError
from x2kit.plugin.choice import FROM_HERE, HARMLESS
from x2kit.plugin.components import Location, SourceConfig

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
        description="where paths of images start; null for the folder of the file. By name, the first whose name "
        'occurs in the path is taken: {COCO: coco, "": flickr30k}, where "" occurs in every path',
    )
    image_hosts: tuple[str, ...] = Field(
        (),
        description="scheme and host, perhaps with a folder, of URLs that may stand in place of an image's path: "
        "https://images.example.org; none by default",
    )
    root: Annotated[Location | bool | None, FROM_HERE] = Field(None, description=ROOT)
    image_root_key: str | None = Field(
        None, description="field in which the names of image_root are looked for; null for the image's path"
    )
    image_key: str = Field("image", description="the field of the image")
    image_suffix: str = Field(
        "", description="what is put behind the path of an image: .jpg where a field holds a bare number"
    )
    id_key: str | None = Field(
        None, description="the field that names a record; null for its file and its place there"
    )
    language: str | None = Field(
        None, description="code of the language of texts that are written without one"
    )

    def check(self) -> None:
        """Raise SettingError if a path leads to no file, or the folder of images is missing."""
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

    def image_at(self, path: str, told_by: str, file: str) -> str:
        """Where an image is.

        Args:
            path: as the file has it, with its suffix.
            told_by: what `image_root_key` holds; the path where that is null.
            file: that names the image.
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
    """Images with captions in JSON lists or lines: fine-tuning and test files, one for all languages or for each."""

    image_as: Literal["path", "base64"] = Field("path", description="what the field of the image holds")
    caption_key: str = Field("caption", description="the field of the text or the texts")
    languages_held: tuple[str, ...] | None = Field(
        None, description="codes of all languages of the texts; null for those that files and language name"
    )
    one_record: Literal["image", "entry"] = Field(
        "image",
        description="what a record is: an image with the texts of all its entries, in all languages, or one entry",
    )
    same_image_key: str | None = Field(
        None, description="the field that is equal where the image is; null for that of the image"
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
        if self.keep and self.one_record == "image":
            raise ValueError("keep: an image has several entries; set one_record: entry")
        return self

    def languages(self) -> tuple[str, ...] | None:
        """The languages that the settings name; None if they name none."""
        return self.languages_held or super().languages()

    def open(self) -> Source:
        """The records. Raises SettingError for missing files, DataError for files that hold none."""
        from x2kit.data.sources.annotation_files import AnnotationSource

        return AnnotationSource(self)


class CocoAnnotations(SplitFiles):
    """Images with captions and named boxes from files in the layout of COCO: instances, captions or both."""

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
        description="scheme and host, perhaps with a folder, of URLs that may stand in place of an image's path: "
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
        description="boxes that reach over their image by more than a pixel or have no area: the record is broken "
        "(refuse), or they are cut off and left out where nothing remains (clip)",
    )
    language: str | None = Field(None, description="code of the language of captions and names")

    def check(self) -> None:
        """Raise SettingError if a path leads to no file, or the folder of images is missing."""
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
        from x2kit.data.sources.coco import CocoSource

        return CocoSource(self)


class VisualGenomeAnnotations(SourceConfig):
    """Images with described regions and named objects from files in the layout of Visual Genome."""

    images: Annotated[Location, HARMLESS] = Field(description="image_data.json: the images, with their sizes")
    files: Annotated[tuple[Location, ...], HARMLESS] = Field(
        min_length=1,
        description="one or several of region_descriptions.json (a region's phrase), objects.json (an object's names) "
        "and attributes.json (each attribute put before each name); an object of two files counts once",
    )
    image_root: Annotated[Location, HARMLESS] = Field(description="the folder of the folders of images")
    root: Annotated[Location | bool | None, FROM_HERE] = Field(None, description=ROOT)
    image_at: Literal["url", "id"] = Field(
        "url",
        description="where an image is under image_root: at the last folder and the name of its url "
        "(VG_100K_2/1.jpg), or at its image_id (1.jpg)",
    )
    outside: Literal["refuse", "clip"] = Field(
        "refuse",
        description="boxes that reach over their image by more than a pixel or have no area: the record is broken "
        "(refuse), or they are cut off and left out where nothing remains (clip)",
    )
    language: str | None = Field(None, description="code of the language of all texts")

    def check(self) -> None:
        """Raise SettingError if a path leads to no file, or the folder of images is missing."""
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
        from x2kit.data.sources.visual_genome import VisualGenomeSource

        return VisualGenomeSource(self)


class ReferringExpressions(EntriesConfig):
    """Images with texts that name boxes, as RefCOCO+ has them; the boxes are in the entries or in the release.

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
        description="boxes that reach over their image by more than a pixel, where its size is told: the record is "
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
        """Raise SettingError if a path leads to no file, or the folder of images is missing."""
        super().check()
        for setting, location in (("refs", self.refs), ("instances", self.instances)):
            if location is not None:
                files_at(setting, [location], self.split)

    def open(self) -> Source:
        """The records. Raises SettingError for missing files, DataError for files of another layout."""
        from x2kit.data.sources.referring import ReferringSource

        return ReferringSource(self)

"""Settings of sources that read annotation files of images. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from x2kit.data.sources.fields import LabelForm
from x2kit.data.sources.splits import (
    SPLIT,
    ImageHosts,
    Language,
    Outside,
    Root,
    SplitFiles,
    check_folders,
    check_root,
    check_split,
    files_at,
    in_split,
    root_in_split,
)
from x2kit.data.storage.locations import folder_of
from x2kit.data.storage.url_policy import check_hosts, locate
from x2kit.errors import DataError, Reason, SettingError
from x2kit.plugin.choice import HARMLESS, Location
from x2kit.plugin.components import SourceConfig

if TYPE_CHECKING:
    from x2kit.plugin.sources import Source

Files = tuple[Location, ...] | dict[str, tuple[Location, ...]]


class EntriesConfig(SourceConfig):
    """Settings shared by sources whose files are lists of entries."""

    files: Annotated[Files, HARMLESS] = Field(
        min_length=1,
        description="files, patterns or folders, also by language: {en: [test.en.json], de: [test.de.json]}; each a "
        "JSON list, a JSON object of objects, JSON Lines, or a table with a header line (.csv, .tsv); {split} in a "
        "path is the name of the split",
    )
    split: str = Field("train", min_length=1, description="value of {split} in paths")
    image_root: Annotated[Location | dict[str, Location] | None, HARMLESS] = Field(
        None,
        description="folder that paths of images are relative to; null for the folder of the file. A mapping selects "
        'the first folder whose key occurs in the path: {COCO: coco, "": flickr30k}; "" occurs in every path',
    )
    image_hosts: ImageHosts = ()
    root: Root = None
    image_root_key: str | None = Field(
        None, description="field that is searched for the keys of image_root; null for the path of the image"
    )
    image_key: str = Field("image", description="field of the image")
    image_suffix: str = Field(
        "", description="suffix added to the path of an image, such as .jpg where the field is a bare number"
    )
    image_path: str | None = Field(
        None,
        description="path of an image or video composed of fields of the entry, such as {language}/{concept}/{value}; "
        "{value} is the field of the image, {number} the digits at its end, {prefix} its part before the first "
        "hyphen; null for the field alone",
    )
    id_key: str | None = Field(None, description="field of the record id; null for file and position")
    id_as: Literal["text", "number"] = Field(
        "text",
        description="content of the id; number reads the digits at the end of a file name: COCO_val2014_000042.jpg "
        "becomes 42",
    )
    language: Language = None

    def check(self) -> None:
        """Raise SettingError if a path matches no file, or the folder of images is missing."""
        self.paths()
        roots = self.image_root if isinstance(self.image_root, dict) else {"": self.image_root}
        check_folders("image_root", [in_split(root, self.split) for root in roots.values() if root])
        check_hosts("image_hosts", self.image_hosts)
        check_root(self.root, self.split)
        if self.image_root_key is not None and not isinstance(self.image_root, dict):
            raise SettingError("image_root_key", "image_root has no keys to search for; make it a mapping")

    def languages(self) -> tuple[str, ...] | None:
        """Return the languages in the settings; None if there is none."""
        if isinstance(self.files, dict):
            return tuple(self.files)
        return None if self.language is None else (self.language,)

    def for_split(self, split: str) -> Self:
        """Return the settings of another split. Raises SettingError if no path contains `{split}`."""
        check_split(self, split, [path for paths in self._by_language().values() for path in paths])
        return super().for_split(split)

    def paths(self) -> list[tuple[str, str | None]]:
        """List the files without duplicates, with the language of each. Raises SettingError if one is missing."""
        return [
            (path, code)
            for code, paths in self._by_language().items()
            for path in files_at("files", paths, self.split)
        ]

    def image_at(self, path: str, searched: str, file: str) -> str:
        """Return the location of an image.

        Args:
            path: path in the entry, with its suffix.
            searched: text that is searched for the keys of `image_root`.
            file: file that contains the entry.
        Raises: DataError if no key of `image_root` occurs, or the location is not allowed.
        """
        if isinstance(self.image_root, dict):
            start = next((start for key, start in self.image_root.items() if key in searched), None)
            if start is None:
                raise DataError(
                    f'image_root: none of {", ".join(self.image_root)} occurs in {searched!r}; add the key "", '
                    "which occurs in every path",
                    reason=Reason.FILE_MISSING,
                )
        else:
            start = folder_of(file) if self.image_root is None else self.image_root
        root = root_in_split(self.root, self.split)
        return locate(path, in_split(start, self.split), self.image_hosts, root, file)

    def _by_language(self) -> dict[str | None, tuple[Location, ...]]:
        return dict(self.files.items()) if isinstance(self.files, dict) else {self.language: self.files}


class AnnotationFiles(EntriesConfig):
    """Images or videos with captions, questions or labels: fine-tuning and test files of one or several languages.

    Files are JSON lists, JSON objects of objects, JSON Lines, or tables with a header line (.csv, .tsv).
    """

    image_as: Literal["path", "base64"] = Field("path", description="content of the field of the image")
    second_image_key: str | None = Field(
        None,
        description="field of a second image: records have two images; a list of two in image_key needs no second key",
    )
    video_key: str | None = Field(
        None,
        description="field of the path of a video, which replaces the image; image_root and others apply",
    )
    caption_key: str = Field("caption", description="field of the text or texts")
    coco_captions: Annotated[Location | None, HARMLESS] = Field(
        None,
        description="captions file in the layout of COCO whose captions replace caption_key, joined by the number at "
        "the end of the image's name",
    )
    question_key: str | None = Field(None, description="field of a question, read in place of caption_key")
    answers_key: str | None = Field(
        None,
        description="field of the answers: a text, a list of texts or {answer: weight}; may be missing in entries",
    )
    single_answer_weight: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="weight of an answer that is a text and not in a list; 0.5 for Visual Genome in files of VQA v2",
    )
    equal_answers: bool = Field(
        False, description="ignore the weights of answers, as CCLM and X²-VLM do for GQA"
    )
    options_keys: tuple[str, ...] = Field(
        (), description="fields of the answer options, one each, or one field of a list"
    )
    label_key: str | None = Field(None, description="field of the label; may be missing in entries")
    label_as: LabelForm | None = Field(
        None,
        description="content of the label; bool also reads the texts True and False, int texts of digits; null for "
        "the value as it is",
    )
    premise_key: str | None = Field(None, description="field of the premise; may be missing in entries")
    languages_held: tuple[str, ...] | None = Field(
        None, description="codes of all languages of the texts; null for those in files and language"
    )
    one_record: Literal["image", "entry", "id"] = Field(
        "image",
        description="a record is an image with the texts of all its entries, in all languages; or one entry; or the "
        "entries of one id in all languages",
    )
    same_image_key: str | None = Field(
        None, description="field that is equal for entries of the same image; null for the field of the image"
    )
    drop_empty: bool = Field(
        False,
        description="skip entries without a text and count them in the log; otherwise they are broken records",
    )
    skip: dict[str, tuple[str, ...]] = Field(
        {},
        description="values of fields of entries that are skipped and counted in the log: {gold_label: ['-']}",
    )
    keep: tuple[str, ...] = Field(
        (), description="further fields copied to the record; requires one_record: entry"
    )

    @model_validator(mode="after")
    def _record_is_consistent(self) -> Self:
        if self.keep and self.one_record != "entry":
            raise ValueError("keep: a record has several entries; set one_record: entry")
        own = ("second_image_key", "question_key", "answers_key", "options_keys", "label_key", "premise_key")
        found = [name for name in own if getattr(self, name)]
        if found and self.one_record == "image":
            raise ValueError(
                f"{', '.join(found)}: a record of an image has several entries; set one_record: entry, or id for "
                "files by language"
            )
        if self.one_record == "id" and self.id_key is None:
            raise ValueError("one_record: id needs id_key, the field of the id")
        if self.coco_captions is not None and self.question_key is not None:
            raise ValueError("coco_captions, question_key: set at most one")
        return self

    def check(self) -> None:
        """Raise SettingError if a path matches no file, or the folder of images is missing."""
        super().check()
        if self.coco_captions is not None:
            files_at("coco_captions", [self.coco_captions], self.split)

    def languages(self) -> tuple[str, ...] | None:
        """Return the languages in the settings; None if there is none."""
        return self.languages_held or super().languages()

    def open(self) -> Source:
        """Open the records. Raises SettingError for missing files, DataError for files without records."""
        from x2kit.data.sources.annotation_files import AnnotationSource

        return AnnotationSource(self)


class CocoAnnotations(SplitFiles):
    """Images with captions and named boxes from files in the layout of COCO: instances, captions or both."""

    files: Annotated[tuple[Location, ...], HARMLESS] = Field(
        min_length=1,
        description="files of images and annotations with bbox and category_id (regions) or caption; several are "
        "joined by image id; {split} in a path is the name of the split",
    )
    image_root: Annotated[Location | None, HARMLESS] = Field(
        None,
        description="folder that file_name is relative to, {split} allowed; null for that of the first file",
    )
    image_hosts: ImageHosts = ()
    root: Root = None
    categories: tuple[str, ...] | None = Field(
        None, description="names of the categories to read boxes of; null for all"
    )
    crowd: Literal["drop", "keep"] = Field("drop", description="drop or keep boxes of crowds (iscrowd)")
    outside: Outside = "refuse"
    language: Language = None

    def check(self) -> None:
        """Raise SettingError if a path matches no file, or the folder of images is missing."""
        super().check()
        check_hosts("image_hosts", self.image_hosts)
        check_root(self.root, self.split)
        if self.image_root is not None:
            check_folders("image_root", [in_split(self.image_root, self.split)])

    def languages(self) -> tuple[str, ...] | None:
        """Return the language in the settings, if any."""
        return None if self.language is None else (self.language,)

    def open(self) -> Source:
        """Open the records. Raises SettingError for missing files, DataError for files of another layout."""
        from x2kit.data.sources.coco import CocoSource

        return CocoSource(self)


class VisualGenomeAnnotations(SourceConfig):
    """Images with described regions and named objects from files in the layout of Visual Genome."""

    images: Annotated[Location, HARMLESS] = Field(description="image_data.json: images and their sizes")
    files: Annotated[tuple[Location, ...], HARMLESS] = Field(
        min_length=1,
        description="one or several of region_descriptions.json (phrase of a region), objects.json (names of an "
        "object) and attributes.json (each attribute before each name); an object in two files is read once",
    )
    image_root: Annotated[Location, HARMLESS] = Field(
        description="folder that contains the folders of images"
    )
    root: Root = None
    image_at: Literal["url", "id"] = Field(
        "url",
        description="path of an image below image_root: url for the last two parts of its url (VG_100K_2/1.jpg), id "
        "for its image_id (1.jpg)",
    )
    outside: Outside = "refuse"
    language: Language = None

    def check(self) -> None:
        """Raise SettingError if a path matches no file, or the folder of images is missing."""
        files_at("images", [self.images], "")
        self.paths()
        check_folders("image_root", [self.image_root])
        check_root(self.root, "")

    def languages(self) -> tuple[str, ...] | None:
        """Return the language in the settings, if any."""
        return None if self.language is None else (self.language,)

    def paths(self) -> list[str]:
        """List the files of regions and objects in order. Raises SettingError if one is missing."""
        return files_at("files", self.files, "")

    def open(self) -> Source:
        """Open the records. Raises SettingError for missing files, DataError for files of another layout."""
        from x2kit.data.sources.visual_genome import VisualGenomeSource

        return VisualGenomeSource(self)


class ReferringExpressions(EntriesConfig):
    """Images with texts that refer to boxes, as in RefCOCO+, from entries or the REFER release.

    The release has a pickle of references and an instances.json; no code in the pickle is run.
    """

    text_key: str = Field("text", description="field of the text or texts")
    bbox_key: str = Field("bbox", description="field of the box [x, y, width, height]; not read with refs")
    refs: Annotated[Location | None, HARMLESS] = Field(
        None, description="pickle of references, refs(unc).p; null if the entries have boxes"
    )
    instances: Annotated[Location | None, HARMLESS] = Field(
        None, description="instances.json with the boxes of the references"
    )
    refs_split: str | None = Field(
        None,
        description="read only entries of this split of the references: val, testA, testB, or {split}; null for all",
    )
    one_record: Literal["image", "entry"] = Field(
        "image", description="a record is an image with the texts of all its entries, or one entry"
    )
    detections: Annotated[Location | None, HARMLESS] = Field(
        None,
        description="dets.json, boxes of a detector by image id, the number at the end of the image's name; read by "
        "weakly supervised grounding",
    )
    detections_key: str | None = Field(None, description="field of boxes of a detector in the entries")
    outside: Outside = "refuse"

    @model_validator(mode="after")
    def _release_is_complete(self) -> Self:
        if self.detections is not None and self.detections_key is not None:
            raise ValueError("detections and detections_key: set at most one")
        if (self.refs is None) != (self.instances is None):
            raise ValueError("refs and instances are files of one release: set both or none")
        if self.refs is None and self.refs_split is not None:
            raise ValueError("refs_split: splits are defined in refs, which is not set")
        return self

    def for_split(self, split: str) -> Self:
        """Return the settings of another split; unchanged if `refs_split` names one."""
        if self.refs_split is None:
            return super().for_split(split)
        if SPLIT not in self.refs_split:
            return self
        return self.model_validate({**self.model_dump(), "split": split})

    def check(self) -> None:
        """Raise SettingError if a path matches no file, or the folder of images is missing."""
        super().check()
        further = {"refs": self.refs, "instances": self.instances, "detections": self.detections}
        for setting, location in further.items():
            if location is not None:
                files_at(setting, [location], self.split)

    def open(self) -> Source:
        """Open the records. Raises SettingError for missing files, DataError for files of another layout."""
        from x2kit.data.sources.referring import ReferringSource

        return ReferringSource(self)

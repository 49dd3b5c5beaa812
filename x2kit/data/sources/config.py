"""Settings of JSON Lines, tar shards, mixtures and Hugging Face folders. Imports no torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from x2kit.data.sources.splits import (
    ImageHosts,
    Language,
    Root,
    SplitFiles,
    check_folders,
    check_root,
    in_split,
)
from x2kit.data.storage import files
from x2kit.data.storage.url_policy import check_hosts
from x2kit.errors import SettingError
from x2kit.plugin.choice import FROM_HERE, HARMLESS, Location
from x2kit.plugin.components import SourceConfig

if TYPE_CHECKING:
    from x2kit.data.sources.json_lines import JsonLinesSource
    from x2kit.data.sources.mixture import MixtureSource
    from x2kit.data.sources.tar_shards import TarShardsSource
    from x2kit.plugin.sources import Source


class JsonLines(SplitFiles):
    """Records from JSON Lines: images and videos as base64 or paths, texts in several languages, boxes."""

    files: Annotated[tuple[Location, ...], HARMLESS] = Field(
        min_length=1,
        description="files, patterns like part-*.jsonl or part-{00..31}.jsonl, or folders, read in the order of their "
        "names; plain or compressed (.gz, extra gzip), local, or URLs like s3://bucket/part-*.jsonl; {split} in a "
        "path is the name of the split",
    )
    image_root: Annotated[Location | None, HARMLESS] = Field(
        None,
        description="folder that paths of images are relative to, {split} allowed; null for the folder of the records",
    )
    image_hosts: ImageHosts = ()
    root: Root = None
    image_key: str | None = Field(None, description="field of the image; null for image, else binary")
    image_as: Literal["path", "base64"] | None = Field(
        None, description="content of that field; null for base64 in the field binary, a path in any other"
    )
    video_key: str | None = Field(
        None, description="field of the video; null for video, else video_frames, if either exists"
    )
    video_as: Literal["path", "base64"] | None = Field(
        None,
        description="content of that field, as a whole or of each frame in a list; null for base64 in the field "
        "video_frames, a path in any other",
    )
    caption_key: str | None = Field(
        None, description="field of the text; null for caption, else desc, else text"
    )
    pair_languages: tuple[str, str] = Field(
        ("source", "target"), description="language codes of the official fields source_text and target_text"
    )
    language: Language = None
    languages_held: tuple[str, ...] | None = Field(
        None, description="codes of all languages of the texts; null for `language`, if it is set"
    )

    def check(self) -> None:
        """Raise SettingError if a path matches no file, or the folder of images is missing."""
        super().check()
        start = self.paths_start()
        check_folders("image_root", [] if start is None else [start])
        check_hosts("image_hosts", self.image_hosts)
        check_root(self.root, self.split)

    def languages(self) -> tuple[str, ...] | None:
        """Return the languages in the settings; None if there is none."""
        if self.languages_held is not None:
            return self.languages_held
        return None if self.language is None else (self.language,)

    def open(self) -> JsonLinesSource:
        """Open the records. Raises SettingError for missing files, DataError for files without records."""
        from x2kit.data.sources.json_lines import JsonLinesSource

        return JsonLinesSource(self)

    def paths_start(self) -> str | None:
        """Return the folder that paths of images are relative to, if the settings name one."""
        return None if self.image_root is None else in_split(self.image_root, self.split)


class TarShards(SplitFiles):
    """Records from tar shards in the layout of webdataset: adjacent files of one key, 00012.jpg, 00012.txt."""

    files: Annotated[tuple[Location, ...], HARMLESS] = Field(
        min_length=1,
        description="shards, patterns like shard-*.tar or shard-{000..127}.tar, or folders; local, or URLs like "
        "s3://bucket/shard-*.tar; {split} in a path is the name of the split",
    )
    image_parts: tuple[str, ...] = Field(
        ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "npy", "img"),
        description="endings of images; the first that exists is read",
    )
    caption_parts: tuple[str, ...] = Field(
        ("txt", "caption", "text"), description="endings of the text; the first that exists is read"
    )
    fields_part: str = Field(
        "json",
        description="ending of a JSON object with the fields of JsonLines; its caption is used if there is no text "
        "file",
    )
    caption_key: str | None = Field(
        None, description="field of the text in that object; null for caption, else desc, else text"
    )
    class_names: tuple[str, ...] | None = Field(
        None, description="class names by number; captions of records with a cls file and no text"
    )
    language: Language = None
    languages_held: tuple[str, ...] | None = Field(
        None, description="codes of all languages of the texts; null for `language`, if it is set"
    )

    def languages(self) -> tuple[str, ...] | None:
        """Return the languages in the settings; None if there is none."""
        if self.languages_held is not None:
            return self.languages_held
        return None if self.language is None else (self.language,)

    def open(self) -> TarShardsSource:
        """Open the records. Raises SettingError for missing files, DataError for files without records."""
        from x2kit.data.sources.tar_shards import TarShardsSource

        return TarShardsSource(self)


Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Mixture(SourceConfig):
    """Several sources mixed in fixed shares, independent of their sizes."""

    sources: dict[str, SourceConfig] = Field(min_length=1, description="sources by names of your choice")
    weights: dict[str, Weight] = Field(
        description="share of each source, by the same names: {web: 3, coco: 1} mixes three records of web with one "
        "of coco, evenly spread"
    )

    @model_validator(mode="after")
    def _each_has_a_weight(self) -> Self:
        if set(self.weights) != set(self.sources):
            raise ValueError(
                f"weights has the keys {', '.join(self.weights) or 'none'}, sources has {', '.join(self.sources)}; "
                "set one weight for each source"
            )
        return self

    def check(self) -> None:
        """Raise SettingError for unsupported weights, and those of the sources with their names."""
        from x2kit.data.sources.mixture import whole_shares

        whole_shares([self.weights[name] for name in self.sources])
        for name, source in self.sources.items():
            try:
                source.check()
            except SettingError as error:
                raise type(error)(f"sources.{name}.init_args.{error.setting}", error.message) from error

    def languages(self) -> tuple[str, ...] | None:
        """Return the languages of all sources; None if those of one are unknown."""
        codes: dict[str, None] = {}
        for source in self.sources.values():
            languages = source.languages()
            if languages is None:
                return None
            codes.update(dict.fromkeys(languages))
        return tuple(codes)

    def open(self) -> MixtureSource:
        """Open all sources. Raises the errors of opening them."""
        from x2kit.data.sources.mixture import MixtureSource

        return MixtureSource(self)

    def for_split(self, split: str) -> Self:
        """Return the mixture of another split of all sources. Raises SettingError if one has no splits."""
        parts = {name: source.for_split(split) for name, source in self.sources.items()}
        return self.model_copy(update={"sources": parts})


class HuggingFaceDataset(SourceConfig):
    """Rows of a folder written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`; needs the extra `datasets`."""

    folder: Annotated[Path, HARMLESS] = Field(
        description="folder of a Dataset, or of a DatasetDict with one folder a split"
    )
    split: str = Field("train", min_length=1, description="split to read of a DatasetDict")
    root: Annotated[Location | bool | None, FROM_HERE] = Field(
        None,
        description="folder that paths of images in rows may not leave, symbolic links resolved; true or null for "
        "the folder of the rows, false for no limit",
    )
    image_column: str | None = Field(
        "image", description="column of the image: an Image feature, bytes or a path; null for texts alone"
    )
    caption_column: str | dict[str, str] | None = Field(
        None,
        description="column of the text or texts, or one for each language: {en: english}; null for none",
    )
    texts: Literal["caption", "parallel"] = Field(
        "caption",
        description="columns by language are captions of the image, or parallel sentences without an image",
    )
    question_column: str | dict[str, str] | None = Field(
        None, description="column of a question, or one for each language; null for none"
    )
    answers_column: str | None = Field(
        None,
        description="column of the answers: a text, a list of texts, or with dots a field of a list: answers.answer; "
        "may be null in rows",
    )
    options_column: str | None = Field(None, description="column of the answer options, a list of texts")
    label_column: str | None = Field(
        None,
        description="column of the label: a text, a whole number, a boolean, or a ClassLabel with names; may be null "
        "in rows",
    )
    boxes_column: str | None = Field(
        None,
        description="column of the boxes of a row, with dots for nested ones: objects.bbox; null for none",
    )
    names_column: str | None = Field(
        None, description="column of their texts, or a ClassLabel with names: objects.category"
    )
    id_column: str | None = Field(None, description="column of the record id; null for the number of the row")
    outside: Literal["refuse", "clip"] = Field(
        "refuse",
        description="boxes without an area: refuse makes the record broken, clip drops them",
    )
    language: Language = None

    @model_validator(mode="after")
    def _columns_are_consistent(self) -> Self:
        if self.caption_column is None and self.boxes_column is None and self.question_column is None:
            raise ValueError("caption_column, question_column, boxes_column: set at least one")
        if (self.boxes_column is None) != (self.names_column is None):
            raise ValueError("boxes_column and names_column: set both or none")
        if self.texts == "parallel" and not isinstance(self.caption_column, dict):
            raise ValueError("texts: parallel sentences need caption_column by language")
        return self

    def check(self) -> None:
        """Raise SettingError if `datasets` is not installed, or the folder is missing."""
        if find_spec("datasets") is None:
            raise SettingError("folder", "needs the package datasets: pip install 'x2kit[datasets]'")
        if not self.folder.is_dir():
            raise SettingError("folder", f"no folder {self.folder}{files.nearest_hint(str(self.folder))}")
        check_root(self.root, self.split)

    def languages(self) -> tuple[str, ...] | None:
        """Return the languages in the settings; None if there is none."""
        by_language = (self.caption_column, self.question_column)
        codes = {code: None for column in by_language if isinstance(column, dict) for code in column}
        return tuple(codes) or (None if self.language is None else (self.language,))

    def open(self) -> Source:
        """Open the rows. Raises SettingError for a missing package, folder or column, DataError for another folder."""
        self.check()
        from x2kit.data.sources.hugging_face import HuggingFaceSource

        return HuggingFaceSource(self)

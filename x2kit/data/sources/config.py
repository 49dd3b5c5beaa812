"""Settings of JSON Lines files: one record a line, in own fields or the official ones. Imports no torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from x2kit.data.sources.splits import SplitFiles, check_folders, check_root, in_split
from x2kit.data.storage import files
from x2kit.data.storage.url_policy import ROOT, check_hosts
from x2kit.errors import SettingError
from x2kit.plugin.choice import FROM_HERE, HARMLESS
from x2kit.plugin.components import Location, SourceConfig

if TYPE_CHECKING:
    from x2kit.data.sources.json_lines import JsonLinesSource
    from x2kit.data.sources.mixture import MixtureSource
    from x2kit.data.sources.tar_shards import TarShardsSource
    from x2kit.plugin.sources import Source


class JsonLines(SplitFiles):
    """Records in JSON Lines files: images and videos as base64 or paths, texts in one or many languages, boxes."""

    files: Annotated[tuple[Location, ...], HARMLESS] = Field(
        min_length=1,
        description="files, patterns like part-*.jsonl or part-{00..31}.jsonl, or folders, whose files are read in the "
        "order of their names; plain or compressed (.gz, extra gzip), "
        "local, or URLs like s3://bucket/part-*.jsonl; {split} in a path stands for the split",
    )
    image_root: Annotated[Location | None, HARMLESS] = Field(
        None,
        description="where paths of images start, {split} allowed; null for the folder of the records",
    )
    image_hosts: tuple[str, ...] = Field(
        (),
        description="what URLs in the records may begin with: https://images.example.org, s3://bucket/folder; "
        "a record with any other URL is broken",
    )
    root: Annotated[Location | bool | None, FROM_HERE] = Field(None, description=ROOT)
    image_key: str | None = Field(None, description="the field of the image; null for image, else binary")
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
        """Raise SettingError if a path leads to no file, or the folder of images is missing."""
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
        from x2kit.data.sources.json_lines import JsonLinesSource

        return JsonLinesSource(self)

    def paths_start(self) -> str | None:
        """Where paths of images start."""
        return None if self.image_root is None else in_split(self.image_root, self.split)


class TarShards(SplitFiles):
    """Records in tar files: the files of one key side by side, 00012.jpg, 00012.txt, 00012.json (webdataset)."""

    files: Annotated[tuple[Location, ...], HARMLESS] = Field(
        min_length=1,
        description="shards, patterns like shard-*.tar or shard-{000..127}.tar, or folders; local, or URLs like "
        "s3://bucket/shard-*.tar; {split} in a path stands for the split",
    )
    image_parts: tuple[str, ...] = Field(
        ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "npy", "img"),
        description="endings of images; the first that a record has is taken",
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
        from x2kit.data.sources.tar_shards import TarShardsSource

        return TarShardsSource(self)


Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Mixture(SourceConfig):
    """Several sources as one, each with its share of the records, whatever their sizes."""

    sources: dict[str, SourceConfig] = Field(min_length=1, description="the sources by names of your choice")
    weights: dict[str, Weight] = Field(
        description="the share of each source, by the same names: {web: 3, coco: 1} gives three records of web "
        "for one of coco, in every stretch of records"
    )

    @model_validator(mode="after")
    def _each_has_a_weight(self) -> Self:
        if set(self.weights) != set(self.sources):
            raise ValueError(
                f"weights are for {', '.join(self.weights) or 'nothing'}, sources are {', '.join(self.sources)}; "
                "give each source one weight"
            )
        return self

    def check(self) -> None:
        """Raise SettingError for weights that make no pattern, and what the sources raise, with their names."""
        from x2kit.data.sources.mixture import whole_shares

        whole_shares([self.weights[name] for name in self.sources])
        for name, source in self.sources.items():
            try:
                source.check()
            except SettingError as error:
                raise type(error)(f"sources.{name}.init_args.{error.setting}", error.message) from error

    def languages(self) -> tuple[str, ...] | None:
        """Those of all sources; None if one of them does not tell."""
        known = [source.languages() for source in self.sources.values()]
        told = [codes for codes in known if codes is not None]
        return (
            tuple(dict.fromkeys(code for codes in told for code in codes))
            if len(told) == len(known)
            else None
        )

    def open(self) -> MixtureSource:
        """The mixed records. Raises what opening the sources raises."""
        from x2kit.data.sources.mixture import MixtureSource

        return MixtureSource(self)

    def for_split(self, split: str) -> Self:
        """The same mixture of another split of all sources. Raises SettingError if one of them has none."""
        parts = {name: source.for_split(split) for name, source in self.sources.items()}
        return self.model_copy(update={"sources": parts})


class HuggingFaceDataset(SourceConfig):
    """Rows of a folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote; needs the extra `datasets`."""

    folder: Annotated[Path, HARMLESS] = Field(
        description="the folder; of a DatasetDict it has one folder for each split"
    )
    split: str = Field("train", min_length=1, description="the split that is read of a DatasetDict")
    root: Annotated[Location | bool | None, FROM_HERE] = Field(
        None,
        description="folder that paths of images in rows may not leave, symbolic links resolved; true or null for "
        "the folder of the rows, false for none",
    )
    image_column: str | None = Field(
        "image", description="column of the image: an Image feature, bytes or a path; null for texts alone"
    )
    caption_column: str | dict[str, str] | None = Field(
        None,
        description="column of the text or the texts, or one for each language: {en: english}; null for none",
    )
    texts: Literal["caption", "parallel"] = Field(
        "caption",
        description="what columns by language are: captions of the image, or parallel sentences without one",
    )
    boxes_column: str | None = Field(
        None, description="column of the boxes of a row, dots lead inwards: objects.bbox; null for none"
    )
    names_column: str | None = Field(
        None, description="column of their texts, also a ClassLabel, whose names are taken: objects.category"
    )
    id_column: str | None = Field(
        None, description="column that names a record; null for the number of the row"
    )
    outside: Literal["refuse", "clip"] = Field(
        "refuse",
        description="boxes without an area: the record is broken (refuse), or they are left out (clip)",
    )
    language: str | None = Field(
        None, description="code of the language of texts that are written without one"
    )

    @model_validator(mode="after")
    def _columns_fit(self) -> HuggingFaceDataset:
        if self.caption_column is None and self.boxes_column is None:
            raise ValueError("caption_column, boxes_column: name at least one")
        if (self.boxes_column is None) != (self.names_column is None):
            raise ValueError("boxes_column and names_column: name both or none")
        if self.texts == "parallel" and not isinstance(self.caption_column, dict):
            raise ValueError("texts: parallel sentences need caption_column by language")
        return self

    def check(self) -> None:
        """Raise SettingError if `datasets` is not installed, or there is no such folder."""
        if find_spec("datasets") is None:
            raise SettingError("folder", "needs the package datasets: pip install 'x2kit[datasets]'")
        if not self.folder.is_dir():
            raise SettingError("folder", f"no folder {self.folder}{files.nearest_to(str(self.folder))}")
        check_root(self.root, self.split)

    def languages(self) -> tuple[str, ...] | None:
        """The languages that the settings name; None if they name none."""
        if isinstance(self.caption_column, dict):
            return tuple(self.caption_column)
        return None if self.language is None else (self.language,)

    def open(self) -> Source:
        """The rows. Raises SettingError for a missing package, folder or column, DataError for another folder."""
        self.check()
        from x2kit.data.sources.hugging_face import HuggingFaceSource

        return HuggingFaceSource(self)

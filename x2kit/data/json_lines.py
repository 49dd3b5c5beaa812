"""Settings of JSON Lines files: one record a line, in own fields or the official ones. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from x2kit.errors import SettingError
from x2kit.plugin.components import SourceConfig

if TYPE_CHECKING:
    from x2kit.data.json_lines_source import JsonLinesSource

SPLIT = "{split}"


class JsonLines(SourceConfig):
    """Records in JSON Lines files: pictures and videos as base64 or paths, texts in one or many languages, boxes."""

    files: tuple[Path, ...] = Field(
        min_length=1,
        description="files, patterns like part-*.jsonl, or folders, whose files are read in the order of "
        "their names; {split} in a path stands for the split",
    )
    split: str = Field("train", min_length=1, description="what {split} in a path stands for")
    image_root: Path | None = Field(
        None,
        description="where paths of pictures start, {split} allowed; null for the folder of the records",
    )
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
        self.paths()
        root = self.root()
        if root is not None and not root.is_dir():
            raise SettingError("image_root", f"no folder {root}")

    def languages(self) -> tuple[str, ...] | None:
        """The languages that the settings name; None if they name none."""
        if self.languages_held is not None:
            return self.languages_held
        return None if self.language is None else (self.language,)

    def open(self) -> JsonLinesSource:
        """The records. Raises SettingError for missing files, DataError for files without records."""
        from x2kit.data.json_lines_source import JsonLinesSource

        return JsonLinesSource(self)

    def for_split(self, split: str) -> Self:
        """The files of another split. Raises SettingError if no path has `{split}` in it."""
        if split != self.split and not any(SPLIT in str(path) for path in self.files):
            raise SettingError(
                "split",
                f"these files have no part {split!r}: write {SPLIT} where its name stands in the path, "
                f"or set split: {split} if they are that part",
            )
        return super().for_split(split)

    def paths(self) -> list[Path]:
        """The files, in order, each once. Raises SettingError for a path that leads to none."""
        found: dict[Path, None] = {}
        for written in self.files:
            path = Path(str(written).replace(SPLIT, self.split))
            matches = _files_of(path)
            if not matches:
                raise SettingError("files", f"{path} leads to no file")
            found.update(dict.fromkeys(matches))
        return list(found)

    def root(self) -> Path | None:
        """Where paths of pictures start."""
        return None if self.image_root is None else Path(str(self.image_root).replace(SPLIT, self.split))


def _files_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        # _SUCCESS marks a finished folder in the official code's storage; names with a dot are nobody's data
        names = (entry for entry in path.iterdir() if "_SUCCESS" not in entry.name and entry.name[0] != ".")
        return sorted(entry for entry in names if entry.is_file())
    top = Path(path.anchor)
    return sorted(match for match in top.glob(str(path.relative_to(top))) if match.is_file())

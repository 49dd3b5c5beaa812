"""Subcommand `x2kit emoji`: show the concepts of EmojiScenes, or export scenes as files. Imports no numpy."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from x2kit.plugin import DataError, SettingError
from x2kit_emoji import LANGUAGES, EmojiScenes

EXAMPLES = """\
examples:
  $ x2kit emoji --concepts 3 --languages en,de
  ...
  $ x2kit emoji --export scenes --records 100 --split test   # scenes/records.jsonl, for the source JsonLines
"""

OPTIONS = {"size": "--records", "image_size": "--image-size"}
"""Options with another name than their setting."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of the subcommand."""
    parser.add_argument(
        "--concepts",
        type=int,
        default=20,
        metavar="N",
        help="number of emoji, the first ones of the fixed order",
    )
    parser.add_argument(
        "--languages",
        type=str,
        default="en",
        help=f"comma-separated codes, of {','.join(LANGUAGES)}",
    )
    parser.add_argument(
        "--export", type=str, metavar="DIR", help="export scenes of these emoji to a new folder"
    )
    parser.add_argument(
        "--records", type=int, default=100, metavar="N", help="with --export: number of scenes"
    )
    parser.add_argument(
        "--image-size",
        type=int,
        default=64,
        metavar="PIXELS",
        help="with --export: side of the square images",
    )
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        default="train",
        help="with --export: split of the scenes",
    )


def run(options: Namespace) -> int:
    """Print the names, or export the scenes."""
    languages = [code.strip() for code in options.languages.split(",")]
    unknown = [code for code in languages if code not in LANGUAGES]
    if unknown:
        raise SettingError("--languages", f"no names in {', '.join(unknown)}; known: {', '.join(LANGUAGES)}")
    if options.export:
        settings = {
            "concepts": options.concepts,
            "size": options.records,
            "split": options.split,
            "image_size": options.image_size,
        }
        print(export(Path(options.export), languages, settings))
        return 0
    EmojiScenes().check()
    from x2kit_emoji.concepts import choose

    for concept in choose(options.concepts):
        print(chr(concept.point), *(concept.names[code] for code in languages), sep="\t")
    return 0


def export(folder: Path, languages: Sequence[str], settings: Mapping[str, Any]) -> Path:
    """Write scenes as PNG files and one line of JSON each, as the source JsonLines reads them.

    Args:
        folder: must not exist; parents are created.
        languages: codes of the captions.
        settings: of `EmojiScenes`.
    Returns: the JSON Lines file.
    Raises: DataError if the folder exists, SettingError for invalid settings.
    """
    if folder.exists():
        raise DataError(f"{folder} exists and is not overwritten; give another folder to --export")
    try:
        config = EmojiScenes.model_validate(settings)
    except ValidationError as error:
        fault = error.errors()[0]
        setting = str(fault["loc"][0])
        raise SettingError(OPTIONS.get(setting, f"--{setting}"), fault["msg"]) from error
    config.check()
    source = config.open()
    (folder / "images").mkdir(parents=True)
    file = folder / "records.jsonl"
    with file.open("w", encoding="utf-8") as lines:
        for index in range(len(source)):
            record = source[index]
            place = f"images/{record['id']}.png"
            record["image"].save(folder / place)
            regions = [
                {"bbox": region["bbox"], "caption": _in_languages(region["caption"], languages)}
                for region in record["regions"]
            ]
            caption = _in_languages(record["caption"], languages)
            line = {"id": record["id"], "image": place, "caption": caption, "regions": regions}
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
    return file


def _in_languages(text: object, languages: Sequence[str]) -> dict[str, str]:
    """Restrict a text to these languages."""
    assert isinstance(text, dict)
    return {code: text[code] for code in languages}

"""Copy the fixtures of a version, and compute the numbers that are compared."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import x2kit
from x2kit.io.run_directory import read_metrics

HERE = Path(__file__).parent
PLACE = "@FOLDER@"
CLOCK = {"time", "seconds", "samples_per_second", "data_wait_share"}
TEXT = {".yaml", ".json", ".jsonl"}
WORDS = ("a red circle", "ein blauer Balken")


def versions() -> list[str]:
    """List the versions that have fixtures."""
    return sorted(path.name for path in HERE.iterdir() if (path / "expected.json").is_file())


def copy(version: str, target: Path) -> Path:
    """Copy the fixtures of a version into a folder that is created, with its path where `@FOLDER@` is."""
    shutil.copytree(HERE / version, target)
    place_in(target, PLACE, str(target))
    return target


def place_in(folder: Path, old: str, new: str) -> None:
    """Replace words in the text files and SQLite tables of a folder."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in TEXT and old in (text := path.read_text(encoding="utf-8")):
            path.write_text(text.replace(old, new), encoding="utf-8")
        elif path.suffix == ".sqlite":
            _place_in_tables(path, old, new)


def _place_in_tables(path: Path, old: str, new: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA journal_mode=DELETE")  # no second file with pages of before
        for (table,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, kind, *_ in file.execute(f'PRAGMA table_info("{table}")').fetchall():
                if kind == "TEXT":
                    file.execute(f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?)', (old, new))
        file.commit()
        file.execute("VACUUM")


def numbers(run: Path) -> list[dict[str, float]]:
    """Read the metrics of a run without timings."""
    return [{key: value for key, value in line.items() if key not in CLOCK} for line in read_metrics(run)]


def embeddings(folder: Path) -> dict[str, list[list[float]]]:
    """Embed two images and two texts with the run's model."""
    model = x2kit.load(folder / "run", device="cpu")
    images = [folder / f"data/shapes/images/{number}.png" for number in (0, 8)]
    return {
        "images": model.embed_images(images).vectors.tolist(),
        "texts": model.embed_texts(list(WORDS)).vectors.tolist(),
    }


def measured(run: Path) -> dict[str, float]:
    """Read the measured numbers of evaluation.json by their path, such as `languages.de.image_to_text.r1`."""
    result = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    return dict(_numbers({key: result[key] for key in ("languages", "grounding")}, ""))


def _numbers(tree: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _numbers(value, f"{path}.{key}".lstrip("."))
    elif isinstance(tree, int | float) and not isinstance(tree, bool) and "seconds" not in path:
        yield path, float(tree)

"""Index a folder of 20,000 built-in scenes with a trained model: encoding, an unchanged folder, one added file.

    python -m tests.benchmarks.search_folder MODEL [--scenes N] [--folder DIR]

Writes the scenes (`x2kit emoji --export`) unless DIR has them, and prints the second part of docs/results/search.md.
Every figure of a command includes the start of Python.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from tests.benchmarks.__main__ import machine
from x2kit.inference import load
from x2kit.io.atomic import format_bytes
from x2kit.search import IndexReport, index_folders, open_index
from x2kit.search.evaluating import evaluate_index, read_captions

LANGUAGES = "en,de,ja"
REPEATS = 5
QUERIES = ("a monkey beside a piano", "ein Affe neben einem Klavier", "ピアノのそばの猿")


def x2kit(*arguments: str | Path) -> str:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "x2kit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def repeated(work: Callable[[], Any], repeats: int = REPEATS) -> str:
    """Return median seconds of several calls, and median seconds of processor time, of child processes too."""
    walls, processors = [], []
    for _ in range(repeats):
        before = processor_seconds()
        walls.append(timed(work)[0])
        processors.append(processor_seconds() - before)
    return f"{statistics.median(walls):.2f} s ({statistics.median(processors):.2f} s of processor time)"


def processor_seconds() -> float:
    """Return the processor time of this process and its children that have ended."""
    return sum(os.times()[:4])


def plain_loop(model: Any, files: list[Path]) -> np.ndarray:
    """Encode files one batch after the other, decoded in between, as a script does."""
    vectors = []
    for start in range(0, len(files), 64):
        images = [Image.open(file).convert("RGB") for file in files[start : start + 64]]
        vectors.append(model.embed_images(images, workers=0, progress=False).vectors)
    return np.concatenate(vectors)


def measure(model: str, scenes: Path, folder: Path) -> list[tuple[str, str]]:
    """Measure and return rows of a table."""
    place, kept = folder / "scenes.index", folder / "kept.png"
    images = sorted((scenes / "images").iterdir())
    images[-1].rename(kept)
    loaded = load(model, "cpu")
    loaded.embed_images(images[:64], progress=False)
    seconds, report = timed(lambda: index_folders([scenes / "images"], place, loaded))
    assert isinstance(report, IndexReport)
    assert (report.added, report.broken) == (len(images) - 1, [])
    rows = [("first indexing, model loaded", f"{seconds:.1f} s, {report.added / seconds:.0f} images/s")]
    plain, _ = timed(lambda: plain_loop(loaded, images[:2000]))
    rows.append(
        ("a plain loop over the same model, without an index", f"{2000 / plain:.0f} images/s (of 2,000)")
    )
    again = repeated(lambda: index_folders([scenes / "images"], place))
    rows.append(("second indexing, unchanged: in a running process", again))
    command = repeated(lambda: x2kit("search", "index", scenes / "images", "--index", place))
    rows.append(("second indexing, unchanged: the whole command", command))
    start = repeated(lambda: subprocess.run([sys.executable, "-c", "import lancedb"], check=True))
    rows.append(("of that, starting Python and importing lancedb", start))
    kept.rename(images[-1])
    before = processor_seconds()
    one, report = timed(lambda: index_folders([scenes / "images"], place, loaded))
    assert report.added == 1
    rows.append(
        (
            "one added file, model loaded",
            f"{one:.2f} s ({processor_seconds() - before:.2f} s of processor time), one image encoded",
        )
    )
    with open_index(place, loaded) as index:
        status = index.status()
        rows.append(
            ("size of the index", f"{format_bytes(status['bytes'])}, {status['dim']} x {status['dtype']}")
        )
        query = statistics.median(timed(lambda text=text: index.query(text))[0] for text in QUERIES * REPEATS)
        rows.append(("one query: text encoded, 10 hits", f"{1000 * query:.1f} ms"))
        captions = read_captions(scenes / "records.jsonl")
        sample = {language: pairs[:1000] for language, pairs in captions.items()}
        result = evaluate_index(index, sample, exact=True)
    for language, found in result["languages"].items():
        scores = ", ".join(f"R@{k[1:]} {100 * found[k]:.1f}" for k in ("r1", "r5", "r10"))
        about = f"chance {100 * found['chance_r1']:.3f}, {found['queries']} captions, {result['candidates']} images"
        rows.append((f"text to image, {language}", f"{scores} ({about})"))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--scenes", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        scenes = options.folder or Path(temporary) / "scenes"
        if not scenes.exists():
            count = str(options.scenes + 1)
            x2kit("emoji", "--export", scenes, "--records", count, "--split", "test", "--concepts", "200",
                  "--languages", LANGUAGES)  # fmt: skip
        rows = measure(options.model, scenes, Path(temporary))
    busy = os.getloadavg()[0]
    print(f"On {machine()}; load average {busy:.1f}.")
    print("\n| | |\n| --- | --- |")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()

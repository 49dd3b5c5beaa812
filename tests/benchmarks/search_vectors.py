"""Build and search indexes of synthetic vectors beside the plain ways: `python -m tests.benchmarks.search_vectors`.

Set OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 where other programs run, since threads wait for each other. Writes its
parts of docs/results/search.md; those of `tests.benchmarks.search_folder` stay. The plain ways are numpy over an array
in memory, rclip's (vectors as bytes in SQLite, read for every call and compared by numpy) and clip-retrieval's (an
inverted file of FAISS over row numbers, as autofaiss makes where it is to be mapped into memory).
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import faiss
import numpy as np
import torch
from x2kit_search import Exact, Faiss, LanceDB

from tests.benchmarks.__main__ import machine
from x2kit.plugin import Index, IndexConfig, IndexSpec, Rows

PAGE = Path(__file__).parents[2] / "docs" / "results" / "search.md"
HEAD = "# How fast search is"
DIM, K, SINGLE, BATCH = 256, 10, 20, 10_000
CLUSTERS = 2000
FILTER = "year = 1950"
"""Selects one row in a hundred."""


TABLE = """| way | write, s | build, s | size, MB | one query, ms | {queries} at once, s \
| one query with a condition, ms | recall@10 |
|---|---|---|---|---|---|---|---|"""
INTRODUCTION = """Synthetic vectors of width {dim} around 2,000 centres, and queries of the same kind.
Recall@{k} is the share of the {k} exact hits that are found. One query is the fastest of {single}, in a process that
has searched before; the condition selects one row in a hundred. Components store float16 and two columns and are
written in batches of 10,000 rows; "exact" is before `build`; float16 alone costs them some recall. The plain ways
store float32 and, but for rclip's, row numbers only, without conditions or updates. Each call of rclip's way reads all
vectors first. Qdrant is not measured: no server is at hand, and its table in memory is a scan by numpy.

{machine}.

numpy, torch and FAISS used one thread, LanceDB two. Other programs used both processors, so compare the rows of a table
and not the seconds with those of your machine."""


class Measured(NamedTuple):
    """One way and its figures: seconds, bytes, and recall@10 against exact search."""

    name: str
    write: float
    build: float
    size: int
    one: float
    together: float
    filtered: float | None
    recall: float


Search = Callable[[np.ndarray], list[list[int]]]


def clustered(count: int, seed: int) -> np.ndarray:
    """Draw unit vectors [count, DIM] around 2,000 centres, with a spectrum that falls as in embeddings."""
    spectrum = (np.arange(DIM) + 1.0) ** -0.5
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, DIM)) * spectrum
    draw, parts = np.random.default_rng(seed), []
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        noise = 0.7 * draw.standard_normal((size, DIM)) * spectrum
        part = (centres[draw.integers(CLUSTERS, size=size)] + noise).astype(np.float32)
        parts.append(part / np.linalg.norm(part, axis=1, keepdims=True))
    return np.concatenate(parts)


def nearest(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Find the K nearest rows by a full matrix product and a partial sort, 100 queries at a time."""
    found = []
    for start in range(0, len(queries), 100):
        scores = queries[start : start + 100] @ vectors.T
        best = np.argpartition(-scores, K, axis=1)[:, :K]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
        found.append(np.take_along_axis(best, order, 1))
    return np.concatenate(found)


def measure(
    name: str, write: float, build: float, size: int, search: Search, truth: np.ndarray, queries: np.ndarray
) -> Measured:
    """Time queries one at a time (the fastest) and all together, and compare with the truth."""
    search(queries[:1])
    singles = [seconds(lambda place=place: search(queries[place : place + 1])) for place in range(SINGLE)]  # type: ignore[misc]
    started = time.perf_counter()
    found = search(queries)
    together = time.perf_counter() - started
    return Measured(name, write, build, size, min(singles), together, None, recall(found, truth))


def recall(found: list[list[int]], truth: np.ndarray) -> float:
    """Return the mean share of the K rows of the truth that were found."""
    pairs = zip(found, truth.tolist(), strict=True)
    return float(np.mean([len(set(one) & set(other)) / K for one, other in pairs]))


def seconds(call: Callable[[], object]) -> float:
    """Time a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def in_numpy(vectors: np.ndarray, queries: np.ndarray) -> tuple[Measured, np.ndarray]:
    """Compare with an array in memory. Returns also the truth for the other ways."""
    started = time.perf_counter()
    truth = nearest(vectors, queries)
    together = time.perf_counter() - started
    one = min(
        seconds(lambda place=place: nearest(vectors, queries[place : place + 1])) for place in range(SINGLE)
    )  # type: ignore[misc]
    name = "numpy, float32 in memory"
    return Measured(name, 0, 0, vectors.nbytes, one, together, None, 1), truth


def as_rclip(
    vectors: np.ndarray, queries: np.ndarray, truth: np.ndarray, plain: Measured, folder: Path
) -> Measured:
    """Read every vector from SQLite for each call, as rclip does for each command.

    A call with all queries takes the time of reading, and that of numpy.
    """
    database = sqlite3.connect(folder / "rclip.sqlite")
    database.execute("CREATE TABLE images (filepath TEXT PRIMARY KEY, vector BLOB)")
    found: list[list[int]] = []

    def write() -> None:
        rows = ((f"{number:08d}.jpg", vector.tobytes()) for number, vector in enumerate(vectors))
        database.executemany("INSERT INTO images VALUES (?, ?)", rows)
        database.commit()

    def search(asked: np.ndarray) -> None:
        read = database.execute("SELECT filepath, vector FROM images").fetchall()
        stored = np.stack([np.frombuffer(vector, np.float32) for _, vector in read])
        found[:] = [[int(read[row][0][:8]) for row in rows] for rows in nearest(stored, asked)]

    written = seconds(write)
    one = min(seconds(lambda: search(queries[:1])) for _ in range(3))
    together = one - plain.one + plain.together
    size = (folder / "rclip.sqlite").stat().st_size
    name = "rclip's way: SQLite and numpy"
    return Measured(name, written, 0, size, one, together, None, recall(found, truth[:1]))


def as_clip_retrieval(vectors: np.ndarray, queries: np.ndarray, truth: np.ndarray, folder: Path) -> Measured:
    """Search an inverted file of FAISS with whole vectors, mapped into memory."""
    file = folder / "clip-retrieval.index"

    def build() -> None:
        index = faiss.index_factory(
            DIM, f"IVF{2 * int(len(vectors) ** 0.5)},Flat", faiss.METRIC_INNER_PRODUCT
        )
        index.cp.niter = 10  # as in x2kit_search
        index.train(vectors[: 40 * index.nlist])
        index.add(vectors)
        faiss.write_index(index, str(file))

    built = seconds(build)
    index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP)
    index.nprobe = 64
    return measure(
        "clip-retrieval's way: FAISS IVF,Flat",
        *(0, built, file.stat().st_size),
        lambda q: index.search(q, K)[1].tolist(),
        *(truth, queries),
    )


def as_component(
    name: str, component: IndexConfig, vectors: np.ndarray, queries: np.ndarray, truth: np.ndarray
) -> Iterator[Measured]:
    """Write rows with columns, and search with and without a condition: exactly, and after a build if it has one."""
    spec = IndexSpec(DIM, "float16", {"path": "text", "year": "integer"})
    with TemporaryDirectory() as folder, component.create(folder, spec) as index:

        def search(asked: np.ndarray, where: str = "") -> list[list[int]]:
            return [[int(hit.id) for hit in hits] for hits in index.search(asked, K, where)]

        def measured(kind: str, build: float) -> Measured:
            size = index.stats().bytes or 0
            found = measure(f"{name}, {kind}", written, build, size, search, truth, queries)
            one = min(
                seconds(lambda place=place: search(queries[place : place + 1], FILTER)) for place in range(5)
            )  # type: ignore[misc]
            return found._replace(filtered=one)

        written = seconds(lambda: write(index, vectors))
        if not isinstance(component, Faiss):  # its exact search is that of Exact
            yield measured("exact", 0)
        report = index.build()
        if report.recall is not None:
            yield measured(report.kind, report.seconds)


def write(index: Index, vectors: np.ndarray) -> None:
    """Write rows with two columns in batches, as indexing does, and merge small files."""
    for start in range(0, len(vectors), BATCH):
        numbers = range(start, min(start + BATCH, len(vectors)))
        columns = {
            "path": [f"{number:08d}.jpg" for number in numbers],
            "year": [1900 + number % 100 for number in numbers],
        }
        index.upsert(Rows([f"{number:08d}" for number in numbers], vectors[start : start + BATCH], columns))
    index.compact()


def ways(count: int, asked: int) -> Iterator[Measured]:
    """Measure every way over this many vectors and queries."""
    vectors, queries = clustered(count, seed=1), clustered(asked, seed=2)
    plain, truth = in_numpy(vectors, queries)
    yield plain
    for name, component in {
        "LanceDB": LanceDB(exact_below=0, keep_minutes=0),
        "Exact": Exact(),
        "Faiss": Faiss(exact_below=0),
    }.items():
        yield from as_component(name, component, vectors, queries, truth)
    with TemporaryDirectory() as folder:
        yield as_rclip(vectors, queries, truth, plain, Path(folder))
    with TemporaryDirectory() as folder:
        yield as_clip_retrieval(vectors, queries, truth, Path(folder))


def row(found: Measured) -> str:
    """Format a row of the table."""
    filtered = "–" if found.filtered is None else f"{found.filtered * 1e3:.1f}"
    return (
        f"| {found.name} | {found.write:.1f} | {found.build:.1f} | {found.size / 1e6:.0f} "
        f"| {found.one * 1e3:.1f} | {found.together:.2f} | {filtered} | {found.recall:.3f} |"
    )


def replace_part(page: str, title: str, text: str) -> str:
    """Replace the part of a page under a heading, or append it; other parts stay."""
    head, *parts = page.split("\n## ")
    kept = [part for part in parts if part.partition("\n")[0] != title]
    if len(kept) == len(parts):
        return "\n## ".join([head, *parts]).rstrip() + f"\n\n## {title}\n\n{text.strip()}\n"
    changed = [f"{title}\n\n{text.strip()}\n" if part not in kept else part for part in parts]
    return "\n## ".join([head, *changed])


def write_part(title: str, text: str) -> None:
    """Write a part of the page, and keep the others."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else HEAD
    PAGE.write_text(replace_part(page, title, text), encoding="utf-8")


def main() -> int:
    """Measure, print, and write the part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--no-page", action="store_true", help="only print")
    options = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    introduction = INTRODUCTION.format(k=K, single=SINGLE, dim=DIM, machine=machine())
    if not options.no_page:
        write_part("Synthetic vectors", introduction)
    for count in options.rows:
        title, lines = f"{count:,} vectors", [TABLE.format(queries=f"{options.queries:,}")]
        print(f"{title}, load {os.getloadavg()[0]:.1f}", flush=True)
        for found in ways(count, options.queries):
            lines.append(row(found))
            print(lines[-1], flush=True)
            load = f"{os.getloadavg()[0]:.1f} programs on {os.cpu_count()} processors"
            if not options.no_page:
                write_part(title, "\n".join([*lines, "", f"Load of the machine at the end: {load}."]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

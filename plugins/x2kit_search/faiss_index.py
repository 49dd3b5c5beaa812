"""Approximate index of FAISS beside the table of exact search. Imports faiss and numpy; searching imports torch."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from x2kit.plugin import BuildReport, DataError, IndexStats, Progress
from x2kit_search.exact import ExactIndex
from x2kit_search.row_table import Snapshot, State
from x2kit_search.vector_file import Nearest, nearest

if TYPE_CHECKING:
    from x2kit_search.config import Faiss

CHUNK = 65_536
TRAINED_WITH = 40
"""Vectors per partition that train the partitions."""
ITERATIONS = 10
"""Of k-means; recall changes little after them."""


class FaissIndex(ExactIndex):
    """The table of `ExactIndex` with an inverted file of FAISS (IVF,SQ8) over the slots that it had when built.

    Newer rows are compared exactly, and candidates of FAISS again by their stored vectors. The file may be deleted: it
    is derived from the table, which names it and decides which of its rows exist.
    """

    def __init__(self, folder: Path, settings: Faiss) -> None:
        super().__init__(folder)
        self._settings = settings
        self._loaded: tuple[str, Any] | None = None

    def build(self, progress: Progress | None = None) -> BuildReport:
        say = progress or (lambda text: None)
        with self._table.read() as table:
            state, slots = table.state(), table.slots("")
            vectors = self._map(state)
        if len(slots) < max(self._settings.exact_below, TRAINED_WITH):
            return BuildReport("exact", len(slots), 0.0)
        started = time.perf_counter()
        kind = f"IVF{self._partitions(len(slots))},SQ8"
        name = f"faiss-{state.generation}-{state.next_slot}-{os.getpid()}.index"
        say(f"{kind}: training")
        index = self._train(kind, vectors, slots)
        for start in range(0, len(slots), CHUNK):
            part = slots[start : start + CHUNK]
            index.add_with_ids(vectors[part].astype(np.float32), part)
            say(f"{kind}: {min(start + CHUNK, len(slots)):,} of {len(slots):,} vectors")
        faiss.write_index(index, str(self._folder / name))
        self._publish(
            state, {"file": name, "kind": kind, "slots": state.next_slot, "generation": state.generation}
        )
        seconds = time.perf_counter() - started
        say("recall")
        chosen = np.random.default_rng(0).choice(slots, min(len(slots), self.recall_queries), replace=False)
        queries = vectors[np.sort(chosen)].astype(np.float32)
        return BuildReport(kind, len(slots), seconds, self.recall(queries), len(queries))

    def stats(self) -> IndexStats:
        found = super().stats()
        with self._table.read() as table:
            built = _built(table)
            if built is None:
                return found
            unindexed = int(table.select("count(*)", f"slot >= {built['slots']}").fetchone()[0])
        return IndexStats(found.rows, found.bytes, built["kind"], unindexed, found.version)

    def compact(self) -> None:
        """Compact the table; if that moves vectors, build the approximate index again."""
        with self._table.read() as table:
            built = table.fact("faiss")
        super().compact()
        with self._table.read() as table:
            outdated = built is not None and _built(table) is None
        if outdated:
            self.build()

    def _nearest(self, table: Snapshot, queries: np.ndarray, k: int, where: str, exact: bool) -> Nearest:
        slots, built = self._slots(table, where), _built(table)
        if exact or built is None or len(slots) <= self._settings.exact_below or not len(queries):
            return super()._nearest(table, queries, k, where, exact)
        vectors = self._map(table.state())
        first_new = int(np.searchsorted(slots, built["slots"]))
        old, new = slots[:first_new], slots[first_new:]
        candidates = self._candidates(built["file"], queries, k, old, built["slots"])
        if (candidates < 0).sum(1).max() > candidates.shape[1] - min(k, len(old)):
            return super()._nearest(table, queries, k, where, exact)  # the probed partitions had too few rows
        refined = _compare(vectors, candidates, queries, k)
        return _merge(refined, nearest(vectors, new, queries, k), k)

    def _candidates(
        self, file: str, queries: np.ndarray, k: int, slots: np.ndarray, count: int
    ) -> np.ndarray:
        """Return slots [q, k * refine] that FAISS finds among the named ones, -1 where it finds fewer."""
        chosen = np.zeros(count, dtype=bool)
        chosen[slots] = True
        bits = np.packbits(chosen, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        parameters = faiss.SearchParametersIVF(nprobe=self._settings.nprobes, sel=selector)
        wanted = min(k * self._settings.refine, len(slots))
        _, found = self._load(file).search(queries, wanted, params=parameters)
        return np.asarray(found)

    def _load(self, file: str) -> Any:
        """Map the file of FAISS, once."""
        if self._loaded is None or self._loaded[0] != file:
            try:
                read = faiss.read_index(str(self._folder / file), faiss.IO_FLAG_MMAP)
            except RuntimeError as error:
                raise DataError(f"{self._folder / file}: cannot be read; build the index again") from error
            self._loaded = (file, read)
        return self._loaded[1]

    def _partitions(self, rows: int) -> int:
        wanted = self._settings.partitions or 2 * int(rows**0.5)
        return max(1, min(wanted, rows // TRAINED_WITH))

    def _train(self, kind: str, vectors: np.ndarray, slots: np.ndarray) -> Any:
        index = faiss.index_factory(self.spec.dim, kind, faiss.METRIC_INNER_PRODUCT)
        count = min(len(slots), TRAINED_WITH * index.nlist)
        sample = np.random.default_rng(0).choice(slots, count, replace=False)
        index.cp.min_points_per_centroid = 1  # no warning on standard output
        index.cp.niter = ITERATIONS
        index.train(vectors[np.sort(sample)].astype(np.float32))
        return index

    def _publish(self, state: State, built: dict[str, Any]) -> None:
        """Name the new file in the table, and delete the one before."""
        with self._table.write() as table:
            if table.state().generation != state.generation:
                (self._folder / built["file"]).unlink()
                raise DataError("another process compacted the table during the build; build again")
            before = table.fact("faiss")
            table.set_fact("faiss", built)
        if before is not None and before["file"] != built["file"]:
            (self._folder / before["file"]).unlink(missing_ok=True)


def _built(table: Snapshot) -> dict[str, Any] | None:
    """Return the description of the file of FAISS; None if the slots have changed since."""
    found: dict[str, Any] | None = table.fact("faiss")
    return found if found is not None and found["generation"] == table.state().generation else None


def _compare(vectors: np.ndarray, candidates: np.ndarray, queries: np.ndarray, k: int) -> Nearest:
    """Order candidates [q, m] by their stored vectors, and keep the k best of each query."""
    kept = min(k, candidates.shape[1])
    slots, scores = np.empty((len(queries), kept), np.int64), np.empty((len(queries), kept), np.float32)
    for place, (query, row) in enumerate(zip(queries, candidates, strict=True)):
        row = np.sort(row[row >= 0])
        own = vectors[row].astype(np.float32) @ query
        best = np.argsort(-own, kind="stable")[:kept]
        slots[place], scores[place] = row[best], own[best]
    return Nearest(slots, scores)


def _merge(one: Nearest, other: Nearest, k: int) -> Nearest:
    slots = np.concatenate([one.slots, other.slots], axis=1)
    scores = np.concatenate([one.scores, other.scores], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return Nearest(np.take_along_axis(slots, order, 1), np.take_along_axis(scores, order, 1))

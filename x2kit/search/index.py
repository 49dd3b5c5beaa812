"""Query an index, count, remove and export its rows, build its approximate index. Torch is imported with the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image

from x2kit.data.media.images import decode
from x2kit.data.media.video_files import decode_frames
from x2kit.data.storage.files import open_file
from x2kit.errors import DataError
from x2kit.evaluation.report.visible import visible
from x2kit.inference.results import InputError
from x2kit.plugin.indexes import BuildReport, Hit, Index, Progress, Rows
from x2kit.search.binding import BoundModel, LoadOptions, open_bound
from x2kit.search.encoding import EncodingOptions, columns_of, encode_files, read_ahead, to_rows
from x2kit.search.entries import kind_of, read_content, shard_of
from x2kit.search.listing import absolute, list_sources
from x2kit.search.lists import write_parquet
from x2kit.search.manifest import (
    BUILD,
    FRAMES,
    known_roots,
    read_json,
    require_root,
    write_json,
)
from x2kit.search.queries import Query, encode_query
from x2kit.search.results import SearchHit, SearchResults, box_of

if TYPE_CHECKING:
    from x2kit.inference.model import Model

_PRESENT = "gone IS NULL"


def open_index(
    location: str | Path,
    model: Model | str | Path | None = None,
    *,
    roots: Sequence[str | Path] = (),
    device: str = "auto",
    plugins: Sequence[str | Path] = (),
    trust_plugins: bool = False,
) -> SearchIndex:
    """Open an index that `x2kit search index` built. The model is loaded with the first query.

    Args:
        location: folder or URL of the index.
        model: loaded model, or its name; by default the one that encoded the index.
        roots: folders and URLs whose files may be opened to re-rank, to locate or to draw, in addition to those that
            this user has indexed.
        device: of the model.
        plugins: files and modules that may be imported in addition to installed plugins.
        trust_plugins: import every plugin that the index or the model names.
    Raises: DataError if there is no index, or another model encoded it.
    """
    location = absolute(location)
    load = LoadOptions(device, plugins=tuple(map(str, plugins)), trust_plugins=trust_plugins)
    table, bound, index_id = open_bound(location, model, load)
    return SearchIndex(location, table, bound, [*known_roots(index_id), *map(absolute, roots)])


class SearchIndex:
    """An open index with its model.

    Attributes:
        location: folder or URL.
        table: rows with vectors, see `x2kit.plugin.Index`.

    Args:
        location: see above.
        table: see above.
        model: called when the first query needs it.
        roots: folders and URLs whose files may be opened.
    """

    def __init__(self, location: str, table: Index, model: BoundModel, roots: Sequence[str]) -> None:
        self.location, self.table = location, table
        self._model, self._roots = model, tuple(roots)

    @property
    def model(self) -> Model:
        """The model of the index; loaded on first use, once."""
        return self._model()

    def __len__(self) -> int:
        return self.table.count(_PRESENT)

    def query(
        self,
        *parts: Any,
        k: int = 10,
        where: str = "",
        rerank: int = 0,
        locate: bool = False,
        exact: bool = False,
    ) -> SearchResults:
        """Find the files most similar to a query.

        Args:
            parts: texts (str), images (Path, bytes, PIL image), `Region`, `Weighted`.
            k: number of hits; of a file with several rows (frames, regions) the best.
            where: SQL condition on the columns, such as "modified > '2024' AND path LIKE '%/holiday/%'".
            rerank: number of first hits that the matching head orders by the probability of a match with the texts.
            locate: find the box of the first text in each hit.
            exact: compare with every row, even if there is an approximate index.
        Raises: DataError for an unreadable query, an invalid condition or k below 1; HeadError if the model lacks the
            head.
        """
        if k < 1 or rerank < 0:
            raise DataError(f"k should be 1 or more and rerank 0 or more, found {k} and {rerank}")
        query = encode_query(self.model, parts)
        if (rerank or locate) and not query.sentences:
            raise DataError("rerank and locate need a text in the query")
        hits = [_shown(hit) for hit in self._find(query.vector, max(k, rerank), where, exact)]
        notes: list[str] = []
        if rerank:
            hits = self._reranked(query, hits, rerank, notes)
        hits = hits[:k]
        if locate:
            hits = [self._located(query, hit, notes) for hit in hits]
        return SearchResults(query.text, hits, notes, opener=self.open)

    def search(
        self, vectors: np.ndarray, k: int, where: str = "", exact: bool = False
    ) -> list[list[SearchHit]]:
        """Find the files most similar to each vector [q, E] float32 of unit length."""
        return [[_shown(hit) for hit in self._find(vector, k, where, exact)] for vector in vectors]

    def _find(self, vector: np.ndarray, k: int, where: str, exact: bool) -> list[Hit]:
        """Search present files, one hit each. Marked rows are excluded only if some were found: a filter costs time."""
        wanted = k
        while True:
            (hits,) = self.table.search(vector[None], wanted, where, exact)
            if any(hit.columns.get("gone") for hit in hits):
                where = f"({where}) AND {_PRESENT}" if where else _PRESENT
                continue
            best: dict[str, Hit] = {}
            for hit in hits:
                best.setdefault(hit.columns.get("path") or hit.id, hit)
            if len(best) >= k or len(hits) < wanted:
                return list(best.values())[:k]
            wanted *= 4  # several rows of the same files

    def _reranked(
        self, query: Query, hits: Sequence[SearchHit], count: int, notes: list[str]
    ) -> list[SearchHit]:
        """Order the first hits by the mean log probability of the texts; those that cannot be opened follow."""
        images: list[Any] = []
        readable, unreadable = [], []
        for hit in hits[:count]:
            try:
                images.append(self._readable(hit))
                readable.append(hit)
            except DataError as error:
                notes.append(f"not re-ranked: {error}")
                unreadable.append(hit)
        if not images:
            return list(hits)
        import torch

        from x2kit.inference.matching import score_pairs

        texts, weights = zip(*query.sentences, strict=True)
        pairs = torch.cartesian_prod(torch.arange(len(images)), torch.arange(len(texts)))
        found = score_pairs(self.model, images, texts, pairs).probabilities.view(len(images), -1).numpy()
        logs = np.log(np.maximum(found, np.finfo(np.float32).tiny)) @ (np.array(weights) / sum(weights))
        scored = [
            replace(hit, probability=float(np.exp(one))) for hit, one in zip(readable, logs, strict=True)
        ]
        scored.sort(key=lambda hit: (-(hit.probability or 0), -hit.similarity, hit.path))
        return [*scored, *unreadable, *hits[count:]]

    def _located(self, query: Query, hit: SearchHit, notes: list[str]) -> SearchHit:
        try:
            boxes = self.model.locate(self._readable(hit), query.sentences[0][0]).boxes
        except DataError as error:
            notes.append(f"not located: {error}")
            return hit
        return replace(hit, box=boxes[0]) if boxes else hit

    def source(self, hit: SearchHit) -> Any:
        """Return a hit as an input of the model: path, URL, bytes, or the frame of a video.

        Raises: DataError if the file is outside the allowed folders, missing, or damaged.
        """
        offset, frame = hit.columns.get("offset"), hit.columns.get("frame")
        location = hit.path if offset is None else shard_of(hit.path)
        require_root(location, self._roots)
        if offset is not None:
            return read_content(location, offset, hit.columns.get("size") or 0)
        if frame is None:
            return location
        with open_file(location) as file:
            (image,) = decode_frames(file, lambda _: [frame], location)
        return image

    def open(self, hit: SearchHit) -> Image.Image:
        """Decode the image of a hit for display, of a video one frame. Raises as `source`."""
        if kind_of(hit.path) == "video" and hit.columns.get("offset") is None:
            hit = replace(hit, columns={**hit.columns, "frame": hit.columns.get("frame") or 0})
        spec = self.model.module.image_spec
        return visible(decode(self.source(hit), spec.channels, spec.value_range), spec)

    def _readable(self, hit: SearchHit) -> Any:
        """Return a hit as an input of the model. Raises DataError if the model cannot read it."""
        source = self.source(hit)
        self.model.reader.read_one(source)
        return source

    def add(
        self, files: Sequence[str | Path], columns: Mapping[str, Sequence[Any]] | None = None
    ) -> list[InputError]:
        """Encode files and write their rows at once, without comparing them with the table.

        For programs that know what is new, such as a worker of Ray or Spark; `x2kit search index` of the folder then
        finds these files unchanged.

        Args:
            files: images, videos and shards; paths or URLs.
            columns: a value per file, by metadata column.
        Returns: files that cannot be read or decoded.
        """
        listing = list_sources(files)
        broken = dict(listing.broken)
        types = self.table.spec.columns
        facts = self.table.spec.facts
        options = EncodingOptions(int(facts.get(FRAMES, "0")))
        places = {absolute(file): place for place, file in enumerate(files)}
        written = []
        for encoded in encode_files(self._model, read_ahead(listing.entries.values()), options):
            entry = encoded.entry
            if encoded.error is not None:
                broken[entry.path] = encoded.error
                continue
            place = places.get(entry.source)
            given = {name: values[place] for name, values in (columns or {}).items() if place is not None}
            own, faults = columns_of(entry, encoded.hash, types)
            if faults:
                broken[entry.path] = f"metadata: {'; '.join(faults)}"
            written.append((encoded, own | given))
        if written:
            self.table.upsert(to_rows(written, types))
        return [InputError(number, name, text) for number, (name, text) in enumerate(broken.items())]

    def status(self) -> dict[str, Any]:
        """Return counts, size, model and last build, as values of JSON."""
        spec = self.table.spec
        return {
            "location": self.location,
            **asdict(self.table.stats()),
            "present": len(self),
            "gone": self.table.count(f"NOT ({_PRESENT})"),
            "dim": spec.dim,
            "dtype": spec.dtype,
            **spec.facts,
            "columns": dict(spec.columns),
            "last_build": read_json(self.location, BUILD) or None,
        }

    def remove(self, where: str) -> int:
        """Delete rows by an SQL condition, "TRUE" for all. Returns: their number. The files stay."""
        if not where.strip():
            raise DataError('remove needs a condition; "TRUE" removes all rows')
        return self.table.delete(where)

    def compact(self) -> None:
        """Free the space of deleted and replaced rows."""
        self.table.compact()

    def build(self, progress: Progress | None = None) -> BuildReport:
        """Build the approximate index if the table is large enough, and store the report."""
        report = self.table.build(progress)
        write_json(self.location, BUILD, asdict(report))
        return report

    def rows(
        self, where: str = "", columns: Sequence[str] | None = None, vectors: bool = True
    ) -> Iterator[Rows]:
        """Iterate over rows, a batch at a time, with the named columns or all."""
        names = list(self.table.spec.columns) if columns is None else columns
        yield from self.table.scan(names, where, vectors)

    def export(
        self,
        file: str | Path,
        where: str = "",
        *,
        columns: Sequence[str] | None = None,
        vectors: bool = True,
    ) -> int:
        """Write rows to a Parquet file: id, columns, and vector as a list of fixed size.

        Args:
            file: replaced if it exists.
            where: condition on the rows.
            columns: their names; None for all.
            vectors: whether to write them.
        Returns: number of rows.
        """
        spec = self.table.spec
        names = list(spec.columns) if columns is None else list(columns)
        spec.require_columns(names)
        return write_parquet(Path(file), spec, names, vectors, self.rows(where, names, vectors))

    def close(self) -> None:
        """Close the table."""
        self.table.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _shown(hit: Hit) -> SearchHit:
    columns = {name: value for name, value in hit.columns.items() if name not in ("path", "gone", "box")}
    path = hit.columns.get("path") or hit.id
    return SearchHit(path, hit.score, box=box_of(hit.columns.get("box")), columns=columns)

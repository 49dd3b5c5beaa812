"""Collection of a Qdrant server. Imports qdrant_client and numpy."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException

from x2kit.plugin import BuildReport, DataError, Hit, Index, IndexSpec, IndexStats, Progress, Rows, rank_hits
from x2kit_search.qdrant_filter import translate

if TYPE_CHECKING:
    from x2kit_search.config import Qdrant

MEMORY = ":memory:"
POLL_SECONDS = 1.0
_NAMESPACE = uuid.UUID("6f1f2d4e-3a53-5d0c-9a55-4cf0a4b0c1de")
_TYPES = {
    "text": models.PayloadSchemaType.KEYWORD,
    "integer": models.PayloadSchemaType.INTEGER,
    "number": models.PayloadSchemaType.FLOAT,
    "boolean": models.PayloadSchemaType.BOOL,
}
_in_memory: dict[str, QdrantClient] = {}
"""Tables in the memory of this process, by location."""
_one_thread = threading.RLock()
"""The client's own tables in memory cannot be read while they change."""


class QdrantIndex(Index):
    """A collection of Qdrant; the point of a row has a UUID made of its id, and its columns as payload."""

    def __init__(self, settings: Qdrant, location: str, client: QdrantClient) -> None:
        self._settings, self._client = settings, client
        self._name = _collection(settings, location)
        with self._errors():
            if not client.collection_exists(self._name):
                raise DataError(f"{settings.url}: no collection {self._name!r}")
            found = client.get_collection(self._name).config.metadata or {}
        if "x2kit" not in found:
            raise DataError(f"{settings.url}: the collection {self._name!r} was not written by x2kit")
        self.spec = IndexSpec.from_dict(found["x2kit"])

    @classmethod
    def create(cls, settings: Qdrant, location: str, spec: IndexSpec) -> QdrantIndex:
        """Create an empty collection. Raises DataError if there is one."""
        client, name = connect(settings, location, create=True), _collection(settings, location)
        with server_errors(settings.url):
            if client.collection_exists(name):
                raise DataError(f"{settings.url}: there is a collection {name!r} already")
            number = models.Datatype.FLOAT16 if spec.dtype == "float16" else models.Datatype.FLOAT32
            quantised = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
            client.create_collection(
                name,
                models.VectorParams(
                    size=spec.dim, distance=models.Distance.COSINE, datatype=number, on_disk=True
                ),
                quantization_config=models.ScalarQuantization(scalar=quantised),
                metadata={"x2kit": spec.to_dict()},
            )
            if settings.shared:
                for column, kind in {"id": "text", **spec.columns}.items():
                    client.create_payload_index(name, column, _TYPES[kind])
        return cls(settings, location, client)

    def upsert(self, rows: Rows) -> None:
        rows.check(self.spec)
        if not len(rows) or rows.vectors is None:
            return
        points = [
            models.PointStruct(
                id=_point(name),
                vector=vector.tolist(),
                payload={
                    "id": name,
                    **{
                        column: rows.columns.get(column, [None] * len(rows))[place]
                        for column in self.spec.columns
                    },
                },
            )
            for place, (name, vector) in enumerate(zip(rows.ids, rows.vectors, strict=True))
        ]
        with self._errors():
            for start in range(0, len(points), self._settings.request_rows):
                self._client.upsert(
                    self._name, points[start : start + self._settings.request_rows], wait=True
                )

    def update(self, ids: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> int:
        Rows(ids, None, columns).check(self.spec, vectors=False)
        if not ids or not columns:
            return 0
        with self._errors():
            points = [_point(name) for name in ids]
            known = {point.id for point in self._client.retrieve(self._name, points, with_payload=False)}
            changes = [
                models.SetPayloadOperation(
                    set_payload=models.SetPayload(
                        points=[point], payload={name: values[place] for name, values in columns.items()}
                    )
                )
                for place, point in enumerate(points)
                if point in known
            ]
            if changes:
                self._client.batch_update_points(self._name, changes, wait=True)
        return len(changes)

    def delete(self, where: str) -> int:
        if not where.strip():
            raise DataError('an empty condition; to delete all rows use "TRUE"')
        selected = translate(where, self.spec)
        assert selected is not None
        with self._errors():
            gone = self._client.count(self._name, selected, exact=True).count
            self._client.delete(self._name, models.FilterSelector(filter=selected), wait=True)
        return int(gone)

    def count(self, where: str = "") -> int:
        with self._errors():
            return int(self._client.count(self._name, translate(where, self.spec), exact=True).count)

    def scan(
        self, columns: Sequence[str] = (), where: str = "", vectors: bool = False, batch: int = 10_000
    ) -> Iterator[Rows]:
        self.spec.require_columns(columns)
        chosen, offset = translate(where, self.spec), None
        while True:
            with self._errors():
                found, offset = self._client.scroll(
                    self._name,
                    chosen,
                    limit=batch,
                    offset=offset,
                    with_payload=["id", *columns],
                    with_vectors=vectors,
                )
            if found:
                payloads = [point.payload or {} for point in found]
                values = {name: [payload.get(name) for payload in payloads] for name in columns}
                read = np.array([point.vector for point in found], np.float32) if vectors else None
                yield Rows([payload["id"] for payload in payloads], read, values)
            if offset is None:
                return

    def search(self, vectors: np.ndarray, k: int, where: str = "", exact: bool = False) -> list[list[Hit]]:
        queries, chosen = self.spec.check_queries(vectors), translate(where, self.spec)
        quantised = models.QuantizationSearchParams(
            ignore=exact, rescore=True, oversampling=self._settings.refine
        )
        params = models.SearchParams(exact=exact, hnsw_ef=self._settings.hnsw_ef, quantization=quantised)
        requests = [
            models.QueryRequest(
                query=query.tolist(), limit=k, filter=chosen, params=params, with_payload=True
            )
            for query in queries
        ]
        with self._errors():
            answers = self._client.query_batch_points(self._name, requests) if requests else []
        return [rank_hits([self._hit(point) for point in answer.points], k) for answer in answers]

    def build(self, progress: Progress | None = None) -> BuildReport:
        """Wait until the server has indexed its segments, which it does by itself."""
        started = time.perf_counter()
        while (state := self._info()).status not in (
            models.CollectionStatus.GREEN,
            models.CollectionStatus.RED,
        ):
            if progress is not None:
                progress(f"{state.indexed_vectors_count or 0:,} of {state.points_count or 0:,} vectors")
            time.sleep(POLL_SECONDS)
        seconds, found = time.perf_counter() - started, self.stats()
        if found.kind == "exact":
            return BuildReport("exact", found.rows, seconds)
        with self._errors():
            sample = models.SampleQuery(sample=models.Sample.RANDOM)
            points = self._client.query_points(
                self._name, sample, limit=self.recall_queries, with_vectors=True
            ).points
        queries = np.array([point.vector for point in points], np.float32)
        return BuildReport(found.kind, found.rows, seconds, self.recall(queries), len(queries))

    def stats(self) -> IndexStats:
        rows, state = self.count(), self._info()
        indexed = min(state.indexed_vectors_count or 0, rows) if self._settings.shared else 0
        kind, unindexed = ("HNSW,int8", rows - indexed) if indexed else ("exact", 0)
        return IndexStats(rows, None, kind, unindexed, None)

    def compact(self) -> None:
        """Do nothing: the server removes deleted points by itself."""

    def close(self) -> None:
        """Close the connection; tables in memory stay until the process ends."""
        if self._settings.shared:
            self._client.close()

    def _hit(self, point: models.ScoredPoint) -> Hit:
        payload = point.payload or {}
        return Hit(payload["id"], point.score, {name: payload.get(name) for name in self.spec.columns})

    def _info(self) -> models.CollectionInfo:
        with self._errors():
            return self._client.get_collection(self._name)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with server_errors(self._settings.url), nullcontext() if self._settings.shared else _one_thread:
            yield


def connect(settings: Qdrant, location: str, create: bool = False) -> QdrantClient:
    """Connect to the server, with the key in the environment variable QDRANT_API_KEY if it is set."""
    if settings.shared:
        with server_errors(settings.url):
            return QdrantClient(url=settings.url, api_key=os.environ.get("QDRANT_API_KEY"))
    if create:
        return _in_memory.setdefault(location, QdrantClient(MEMORY))
    if location not in _in_memory:
        raise DataError(f"{location}: no table in the memory of this process")
    return _in_memory[location]


@contextmanager
def server_errors(url: str) -> Iterator[None]:
    """Raise DataError for errors of the server and of the connection."""
    try:
        yield
    except (ApiException, httpx.HTTPError) as error:
        raise DataError(f"{url}: {' '.join(str(error).split())}") from error


def _collection(settings: Qdrant, location: str) -> str:
    return settings.collection or Path(location).name


def _point(name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, name))

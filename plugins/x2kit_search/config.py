"""Settings of the indexes. Imports no library."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from x2kit.plugin import IndexConfig, SettingError

if TYPE_CHECKING:
    from x2kit.plugin import Index, IndexSpec


class Exact(IndexConfig):
    """Compare each query with every vector of a local table (SQLite and torch; no extra).

    Every hit is right, and filters cost nothing; the time of a search grows with the table.
    """

    def create(self, location: str, spec: IndexSpec) -> Index:
        """Create an empty table in a local folder."""
        from x2kit_search.exact import ExactIndex

        return ExactIndex.create(location, spec)

    def open(self, location: str) -> Index:
        """Open the table in a local folder."""
        from x2kit_search.exact import ExactIndex

        return ExactIndex.open(location)


class Faiss(IndexConfig):
    """The table of `Exact` with an approximate index of FAISS (extra `faiss`), for a local disk.

    Beyond `exact_below` rows, `build` makes an inverted file with a byte per number (IVF,SQ8), which is mapped into
    memory; candidates are compared again by their stored vectors. A search among fewer rows than that is exact.
    """

    exact_below: int = Field(100_000, ge=0, description="rows below which search is exact")
    partitions: int | None = Field(
        None, gt=0, description="partitions of the approximate index; null for 2 √rows"
    )
    nprobes: int = Field(64, gt=0, description="partitions searched; more find more of the exact hits")
    refine: int = Field(
        4, gt=0, description="candidates compared by their stored vectors, as a multiple of k"
    )

    def check(self) -> None:
        """Raise SettingError if FAISS is not installed."""
        _require("faiss", "faiss")

    def create(self, location: str, spec: IndexSpec) -> Index:
        """Create an empty table in a local folder. Raises SettingError if FAISS is not installed."""
        self.check()
        from x2kit_search.faiss_index import FaissIndex

        return FaissIndex.create(location, spec, settings=self)

    def open(self, location: str) -> Index:
        """Open the table in a local folder. Raises SettingError if FAISS is not installed."""
        self.check()
        from x2kit_search.faiss_index import FaissIndex

        return FaissIndex.open(location, settings=self)


class LanceDB(IndexConfig):
    """Table of LanceDB in a local folder or an object store (extra `search`).

    Locations are paths and URLs such as `s3://bucket/folder`; credentials and endpoints are read from the environment
    (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT`, ...). Beyond `exact_below` rows, `build` makes an index of partitions with one
    bit per number (IVF_RQ), and candidates are compared again by their stored vectors.
    """

    default: ClassVar[bool] = True

    exact_below: int = Field(100_000, ge=0, description="rows below which no approximate index is built")
    partition_size: int = Field(2048, gt=0, description="rows per partition of the approximate index")
    nprobes: int = Field(96, gt=0, description="partitions searched; more find more of the exact hits")
    refine: int = Field(
        10, gt=0, description="candidates compared by their stored vectors, as a multiple of k"
    )
    keep_minutes: float = Field(
        10.0,
        ge=0,
        description="age of versions that `compact` keeps for readers and writers in other processes",
    )

    def check(self) -> None:
        """Raise SettingError if LanceDB is not installed."""
        _require("search", "lancedb")

    def create(self, location: str, spec: IndexSpec) -> Index:
        """Create an empty table. Raises SettingError if LanceDB is not installed."""
        self.check()
        from x2kit_search.lance import LanceIndex

        return LanceIndex.create(self, location, spec)

    def open(self, location: str) -> Index:
        """Open the table. Raises SettingError if LanceDB is not installed."""
        self.check()
        from x2kit_search.lance import LanceIndex

        return LanceIndex(self, location)


class Qdrant(IndexConfig):
    """Collection of a Qdrant server, for a cluster (extra `qdrant`).

    The location is a folder for x2kit's own files, and its name that of the collection unless `collection` is set. The
    server builds its index (HNSW over one byte per number) by itself. Conditions are translated to its filters, which
    have no LIKE. A write is atomic per `request_rows` rows. The key is read from QDRANT_API_KEY.
    """

    unsupported: ClassVar[frozenset[str]] = frozenset({"LIKE"})

    url: str = Field(
        "http://localhost:6333",
        pattern="^(https?://.+|:memory:)$",
        description="address of the server; :memory: for a table that lasts as long as the process",
    )
    collection: str | None = Field(None, min_length=1, description="collection; null for the folder's name")
    request_rows: int = Field(1000, gt=0, description="rows per request")
    hnsw_ef: int = Field(128, gt=0, description="candidates of a search; more find more of the exact hits")
    refine: float = Field(
        2.0, ge=1, description="candidates compared by their stored vectors, as a multiple of k"
    )

    @property
    def shared(self) -> bool:
        """Whether the table is on a server."""
        return self.url != ":memory:"

    def check(self) -> None:
        """Raise SettingError if the client or sqlglot is not installed."""
        _require("qdrant", "qdrant_client", "sqlglot")

    def create(self, location: str, spec: IndexSpec) -> Index:
        """Create an empty collection. Raises SettingError if the client is not installed."""
        self.check()
        from x2kit_search.qdrant import QdrantIndex

        return QdrantIndex.create(self, location, spec)

    def open(self, location: str) -> Index:
        """Open the collection. Raises SettingError if the client is not installed."""
        self.check()
        from x2kit_search.qdrant import QdrantIndex, connect

        return QdrantIndex(self, location, connect(self, location))


def _require(extra: str, *modules: str) -> None:
    for module in modules:
        if find_spec(module) is None:
            raise SettingError(
                "class_path", f'needs {module}, which is not installed: pip install "x2kit[{extra}]"'
            )

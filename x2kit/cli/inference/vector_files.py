"""Write embeddings batch by batch to NumPy or Parquet files. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from x2kit.errors import X2KitError
from x2kit.io.atomic import atomic_file

if TYPE_CHECKING:
    import numpy as np

NPY, PARQUET, NAMES = ".npy", ".parquet", ".jsonl"
KINDS = ("image", "text")
"""An embedded image has its path as "image", an embedded text its text as "text"."""


class VectorFile(Protocol):
    """A file that takes rows; it appears complete when its block ends, or not at all."""

    def add(self, kind: str, names: Sequence[str], vectors: np.ndarray) -> None:
        """Append rows.

        Args:
            kind: "image" or "text".
            names: of the rows.
            vectors: [n, E].
        """


def check_output(file: str) -> Path:
    """Return the path. Raises X2KitError for another suffix, an existing file, or pyarrow missing for Parquet."""
    path = Path(file)
    if path.suffix not in (NPY, PARQUET):
        raise X2KitError(f"--output: {file}: should end in {NPY} or {PARQUET}")
    for written in (path, path.with_suffix(NAMES))[: 2 if path.suffix == NPY else 1]:
        if written.exists():
            raise X2KitError(f"--output: {written}: exists; delete it or choose another name")
    if path.suffix == PARQUET:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise X2KitError(
                f"--output: {file}: needs pyarrow; pip install pyarrow, or write {NPY}"
            ) from error
    return path


@contextmanager
def vector_file(path: Path, dim: int, dtype: str, facts: Mapping[str, str]) -> Iterator[VectorFile]:
    """Open a file for embeddings.

    Args:
        path: with suffix .npy, beside which a .jsonl file gets the names, or .parquet.
        dim: width E.
        dtype: "float32" or "float16".
        facts: about the model, stored in the metadata of Parquet.
    """
    opened = _open_npy(path, dim, dtype) if path.suffix == NPY else _open_parquet(path, dim, dtype, facts)
    with opened as file:
        yield file


class _Npy:
    """Rows of an array [n, E] whose header is written last, and their names as JSON Lines."""

    def __init__(self, vectors: Path, names: Path, dim: int, dtype: str) -> None:
        self.rows, self._dim, self._dtype = 0, dim, dtype
        self._vectors, self._names = vectors.open("wb"), names.open("w", encoding="utf-8")
        self._header()

    def add(self, kind: str, names: Sequence[str], vectors: np.ndarray) -> None:
        self.rows += len(names)
        self._vectors.write(vectors.astype(self._dtype).tobytes())
        for name in names:
            # ensure_ascii escapes bytes of paths that are not UTF-8
            self._names.write(json.dumps({kind: name}) + "\n")

    def close(self) -> None:
        self._vectors.seek(0)
        self._header()  # NumPy pads it, so that more rows need no more bytes
        self._vectors.close()
        self._names.close()

    def _header(self) -> None:
        import numpy as np

        np.lib.format.write_array_header_1_0(
            self._vectors,
            {"descr": np.dtype(self._dtype).str, "fortran_order": False, "shape": (self.rows, self._dim)},
        )


@contextmanager
def _open_npy(path: Path, dim: int, dtype: str) -> Iterator[VectorFile]:
    with atomic_file(path) as vectors, atomic_file(path.with_suffix(NAMES)) as names:
        file = _Npy(vectors, names, dim, dtype)
        try:
            yield file
        finally:
            file.close()


@contextmanager
def _open_parquet(path: Path, dim: int, dtype: str, facts: Mapping[str, str]) -> Iterator[VectorFile]:
    import pyarrow as pa
    from pyarrow import parquet

    vector = pa.list_(pa.from_numpy_dtype(dtype), dim)
    schema = pa.schema([*((kind, pa.string()) for kind in KINDS), ("vector", vector)], metadata=dict(facts))

    class Rows:
        def add(self, kind: str, names: Sequence[str], vectors: np.ndarray) -> None:
            flat = pa.array(vectors.astype(dtype).reshape(-1))
            columns = {
                own: [_utf8(name) for name in names] if own == kind else [None] * len(names) for own in KINDS
            }
            columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, dim)
            writer.write_table(pa.table(columns, schema))

    with atomic_file(path) as partial, parquet.ParquetWriter(partial, schema) as writer:
        yield Rows()


def _utf8(name: str) -> str:
    """Escape bytes of a path that are not UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")

"""Write and read the best documents of each query beside a result: one safetensors file a task. Imports no torch.

JSON would take longer to write than many evaluations: 30,000 queries have three million ranked documents.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from x2kit.errors import X2KitError
from x2kit.evaluation.items import unique
from x2kit.io.atomic import atomic_file
from x2kit.plugin.toolkit.item_values import RANKED, ItemValues, Ranking


class RankedQueries(NamedTuple):
    """Rankings of one language and kind of queries, as read.

    Attributes:
        part, language: as in `ItemValues`.
        queries: Q ids.
        documents: C ids.
        columns: [Q, K] int32, the best documents of each query, best first.
        scores: [Q, K] float32, descending.
        relevant: [R, 2] int32, pairs of query and relevant document.
    """

    part: str
    language: str
    queries: list[str]
    documents: list[str]
    columns: NDArray[np.int32]
    scores: NDArray[np.float32]
    relevant: NDArray[np.int32]


def rankings_file(result: Path, task: str) -> Path:
    """Return the file of a task's rankings beside a result: evaluation-TASK-rankings.safetensors."""
    return result.with_name(f"{result.stem}-{task}-rankings.safetensors")


def write_rankings(file: Path, parts: Sequence[ItemValues]) -> dict[str, Any] | None:
    """Write the rankings among the values of a task, atomically; None without any.

    Returns: number of queries and of their saved documents, for the result.
    """
    from safetensors.numpy import save

    ranked = [(one, one.ranking) for one in parts if one.ranking is not None]
    if not ranked:
        return None
    tensors: dict[str, Any] = {}
    for number, (one, ranking) in enumerate(ranked):
        tensors |= {f"{number}.{name}": array for name, array in _arrays(one, ranking).items()}
    names = json.dumps([{"part": one.part, "language": one.language} for one, _ in ranked])
    content = save(tensors, {"format": "x2kit-rankings-1", "parts": names})
    with atomic_file(file) as partial:
        partial.write_bytes(content)
    return {"queries": sum(len(one.ids) for one, _ in ranked), "documents": RANKED}


def _arrays(one: ItemValues, ranking: Ranking) -> dict[str, NDArray[Any]]:
    pairs = [(query, document) for query, found in enumerate(ranking.relevant) for document in found]
    return {
        "queries": _packed(unique(one.ids)),
        "documents": _packed(unique(ranking.documents)),
        "columns": np.ascontiguousarray(np.asarray(ranking.columns), dtype=np.int32),
        "scores": np.ascontiguousarray(np.asarray(ranking.scores), dtype=np.float32),
        "relevant": np.asarray(pairs, dtype=np.int32).reshape(-1, 2),
    }


def _packed(ids: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(ids, ensure_ascii=False).encode(), dtype=np.uint8)


def _unpacked(packed: NDArray[np.uint8]) -> list[str]:
    return [str(each) for each in json.loads(packed.tobytes())]


def read_rankings(file: Path) -> list[RankedQueries]:
    """Read a file of `write_rankings`. Raises X2KitError for a file that is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as content:
            parts = json.loads((content.metadata() or {})["parts"])
            return [_read(content, number, one) for number, one in enumerate(parts)]
    except (OSError, ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
        raise X2KitError(
            f"{file}: no readable rankings ({type(error).__name__}: {error}); evaluate again: x2kit evaluate RUN"
        ) from error


def _read(content: Any, number: int, one: dict[str, str]) -> RankedQueries:
    found = {name: content.get_tensor(f"{number}.{name}") for name in ("columns", "scores", "relevant")}
    queries, documents = (
        _unpacked(content.get_tensor(f"{number}.{name}")) for name in ("queries", "documents")
    )
    columns, relevant = found["columns"], found["relevant"]
    if (
        columns.shape != found["scores"].shape
        or len(columns) != len(queries)
        or not _within(columns, len(documents))
        or not _within(relevant[:, 0], len(queries))
        or not _within(relevant[:, 1], len(documents))
    ):
        raise ValueError(f"arrays of {one['part']} {one['language']} do not fit each other")
    return RankedQueries(one["part"], one["language"], queries, documents, **found)


def _within(numbers: NDArray[np.int32], count: int) -> bool:
    return bool(((numbers >= 0) & (numbers < count)).all())

"""Measure retrieval with an index: recall of the image of each caption among all rows. Imports torch.

The metric is that of `x2kit.tasks.retrieval`: ties count as misses, other positives of a caption are not counted. Ranks
from `DEPTH` on are not needed for R@10, so that each caption costs one search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from x2kit.data.index.lines import LineIndex
from x2kit.data.sources.fields import errors_at, parse_object
from x2kit.data.storage.locations import folder_of, join
from x2kit.errors import DataError
from x2kit.search.index import SearchIndex
from x2kit.search.listing import absolute
from x2kit.search.manifest import quoted
from x2kit.search.results import SearchHit
from x2kit.tasks.retrieval.ranking import RECALLS, chance, recalls

DEPTH = 50
"""Hits of each query, more than the largest K of R@K, so that ties at K are seen."""
_AT_ONCE = 256

Captions = Mapping[str, Sequence[tuple[str, str]]]
"""Caption and path of its image, by language."""


def read_captions(file: str | Path) -> dict[str, list[tuple[str, str]]]:
    """Read captions from JSON Lines: `image` (path, relative to the file) and `caption`.

    A caption is a text, a list of texts, or these by language code.

    Returns: caption and path, by language; "" for texts without a language.
    Raises: DataError with the line of an invalid record, or without captions.
    """
    location = absolute(file)
    lines = LineIndex(location)
    found: dict[str, list[tuple[str, str]]] = {}
    for number in range(len(lines)):
        with errors_at(f"{location}:{lines.number(number)}"):
            record = parse_object(lines.read(number))
            image = record.get("image")
            if not isinstance(image, str):
                raise DataError('expected {"image": path, "caption": text}')
            path = join(folder_of(location), image)
            for language, text in _texts(record.get("caption")):
                found.setdefault(language, []).append((text, path))
    if not found:
        raise DataError(f"{location}: no captions")
    return found


def _texts(caption: Any) -> Iterator[tuple[str, str]]:
    if isinstance(caption, dict):
        for language, texts in caption.items():
            for _, text in _texts(texts):
                yield str(language), text
    elif isinstance(caption, list):
        for text in caption:
            yield from _texts(text)
    elif isinstance(caption, str):
        yield "", caption
    else:
        raise DataError(f"caption: expected a text, a list, or texts by language, found {caption!r}")


def evaluate_index(
    index: SearchIndex,
    captions: Captions,
    *,
    where: str = "",
    exact: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure R@1, R@5 and R@10 of text-to-image retrieval by language.

    Args:
        index: its rows are the candidates.
        captions: see `read_captions`; equal texts share their images as positives.
        where: condition on the candidates.
        exact: compare with every row, even if there is an approximate index.
        progress: called with language, finished and all captions.
    Returns: candidates, search (kind of the index), model, and languages.CODE: r1, r5, r10, chance_r1, queries and
        missing (captions whose image is not in the index, which count as misses).
    """
    candidates = index.table.count(f"({where}) AND gone IS NULL" if where else "gone IS NULL")
    if not candidates:
        raise DataError(f"{index.location}: no row to search" + (f" where {where}" if where else ""))
    languages = {}
    for language, pairs in captions.items():
        report = _no_progress if progress is None else progress
        languages[language or "captions"] = _measure(index, pairs, where, exact, candidates, language, report)
    return {
        "direction": "text_to_image",
        "candidates": candidates,
        "search": "exact" if exact else index.table.stats().kind,
        "model": index.table.spec.facts.get("model"),
        "languages": languages,
    }


def _measure(
    index: SearchIndex,
    pairs: Sequence[tuple[str, str]],
    where: str,
    exact: bool,
    candidates: int,
    language: str,
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    positives: dict[str, set[str]] = {}
    for text, path in pairs:
        positives.setdefault(text, set()).add(path)
    ranks: list[int] = []
    texts = [text for text, _ in pairs]
    for start in range(0, len(texts), _AT_ONCE):
        part = texts[start : start + _AT_ONCE]
        vectors = index.model.embed_texts(part, progress=False)
        for error in vectors.errors:
            raise DataError(f"{language}: {error.name!r}: {error.message}")
        found = index.search(vectors.vectors, DEPTH, where, exact)
        ranks.extend(rank_of(hits, positives[text]) for hits, text in zip(found, part, strict=True))
        progress(language or "captions", len(ranks), len(texts))
    known = _known_paths(index, {path for _, path in pairs})
    return {
        **recalls(torch.tensor(ranks)),
        "chance_r1": chance([range(len(positives[text])) for text in texts], candidates),
        "queries": len(texts),
        "missing": sum(path not in known for _, path in pairs),
    }


def rank_of(hits: Sequence[SearchHit], positives: set[str]) -> int:
    """Return the rank of the best positive among the hits, 0 for the first; DEPTH if it is not there.

    Negatives with the same score rank before it.
    """
    best = next((hit.similarity for hit in hits if hit.path in positives), None)
    if best is None:
        return DEPTH
    return sum(hit.similarity >= best and hit.path not in positives for hit in hits)


def _known_paths(index: SearchIndex, paths: set[str]) -> set[str]:
    ordered = sorted(paths)
    found: set[str] = set()
    for start in range(0, len(ordered), 500):
        names = ", ".join(map(quoted, ordered[start : start + 500]))
        for rows in index.table.scan(["path"], f"path IN ({names}) AND gone IS NULL"):
            found.update(rows.columns["path"])
    return found


def _no_progress(language: str, done: int, total: int) -> None:
    """Report nothing."""


assert max(RECALLS) < DEPTH

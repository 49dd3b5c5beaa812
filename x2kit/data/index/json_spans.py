"""Find the spans of elements in a large JSON document for random access. Imports no torch.

The document is scanned once, in chunks of bytes, for brackets, commas and quotes, which are never a part of another
character in UTF-8. Elements are not parsed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from x2kit.errors import DataError, Reason

Spans = NDArray[np.int64]
"""[K, 2]: start and end of each element in bytes."""

_QUOTE, _BACKSLASH, _COMMA = b'"\\,'
_OPENING, _CLOSING = b"[{", b"]}"
_SPACE = b" \t\r\n"
_STEP = np.zeros(256, np.int8)
_STEP[list(_OPENING)], _STEP[list(_CLOSING)] = 1, -1
_IS_MARK = _STEP != 0
_IS_MARK[_COMMA] = True
_IS_SPACE = np.zeros(256, np.bool_)
_IS_SPACE[list(_SPACE)] = True


class Marks(NamedTuple):
    """Brackets and commas down to some depth.

    Attributes:
        offsets: [N] int64, in bytes.
        characters: [N] uint8.
        depths: [N] int8, number of open brackets before the mark.
    """

    offsets: NDArray[np.int64]
    characters: NDArray[np.uint8]
    depths: NDArray[np.int8]


class _State(NamedTuple):
    """State of the scan between two chunks."""

    offset: int = 0
    in_string: bool = False
    escaped: bool = False
    depth: int = 0


def find_marks(chunks: Iterable[bytes], depth: int) -> Marks:
    """Scan a document for the brackets and commas down to `depth`.

    Args:
        chunks: bytes of the document, split anywhere.
        depth: 1 for the elements of the outermost list, 2 for those of lists in the outermost object.
    Raises: DataError if the document is no list or object, or is truncated.
    """
    state = _State()
    found: list[Marks] = []
    for chunk in chunks:
        marks, state = _scan(np.frombuffer(chunk, np.uint8), state, depth)
        found.append(marks)
    found.append(Marks(np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.int8)))
    marks = Marks(*(np.concatenate(part) for part in zip(*found, strict=True)))
    if not len(marks.offsets) or marks.characters[0] not in _OPENING:
        raise DataError("not a JSON list or object", reason=Reason.NOT_JSON)
    if state.depth != 0 or state.in_string:
        raise DataError("not JSON: the document is truncated", reason=Reason.NOT_JSON)
    if np.count_nonzero((marks.depths == 0) & np.isin(marks.characters, list(_OPENING))) > 1:
        raise DataError("not JSON: extra data after the document", reason=Reason.NOT_JSON)
    return marks


def spans_at(marks: Marks, depth: int, first: int = 0, last: int | None = None) -> Spans:
    """Return the spans between commas at one depth; an empty list has one blank span.

    Args:
        marks: marks of the document.
        depth: number of brackets around the elements.
        first, last: offsets that limit the spans; None for the end.
    """
    comma = (marks.characters == _COMMA) & (marks.depths == depth)
    opening = np.isin(marks.characters, list(_OPENING)) & (marks.depths == depth - 1)
    closing = np.isin(marks.characters, list(_CLOSING)) & (marks.depths == depth)
    inside = marks.offsets >= first
    if last is not None:
        inside &= marks.offsets < last
    starts = marks.offsets[(comma | opening) & inside] + 1
    ends = marks.offsets[(comma | closing) & inside]
    return np.stack([starts, ends], 1)


def _scan(chunk: NDArray[np.uint8], state: _State, depth: int) -> tuple[Marks, _State]:
    quotes = chunk == _QUOTE
    quotes_escaped, ends_escaped = _escaped(chunk, state.escaped)
    quotes[quotes_escaped] = False
    # parity of the quotes so far; an overflow keeps the lowest bit
    in_string = (np.cumsum(quotes, dtype=np.uint8) + np.uint8(state.in_string)) & 1
    places = np.flatnonzero(_IS_MARK[chunk] & (in_string == 0))
    steps = _STEP[chunk[places]]
    after = np.cumsum(steps, dtype=np.int64) + state.depth
    if len(after) and after.min() < 0:
        raise DataError("not JSON: unmatched closing bracket", reason=Reason.NOT_JSON)
    before = after - steps
    kept = before < depth + (steps <= 0)  # opening brackets at `depth` separate no elements
    marks = Marks(places[kept] + state.offset, chunk[places[kept]], before[kept].astype(np.int8))
    return marks, _State(
        state.offset + len(chunk),
        bool(in_string[-1]) if len(chunk) else state.in_string,
        ends_escaped if len(chunk) else state.escaped,
        int(after[-1]) if len(after) else state.depth,
    )


def _escaped(chunk: NDArray[np.uint8], first_escaped: bool) -> tuple[NDArray[np.int64], bool]:
    """Return positions of escaped characters, and whether the first of the next chunk is escaped."""
    slashes = np.flatnonzero(chunk == _BACKSLASH)
    found = np.zeros(1 if first_escaped else 0, np.int64)
    if first_escaped and len(slashes) and slashes[0] == 0:
        slashes = slashes[1:]  # this backslash is escaped
    if len(slashes):
        breaks = np.flatnonzero(np.diff(slashes) != 1)
        run_starts = slashes[np.concatenate([[0], breaks + 1])]
        run_ends = slashes[np.concatenate([breaks, [len(slashes) - 1]])]
        found = np.concatenate([found, run_ends[(run_ends - run_starts) % 2 == 0] + 1])
    beyond = bool(len(found) and found[-1] == len(chunk))
    return (found[:-1] if beyond else found), beyond

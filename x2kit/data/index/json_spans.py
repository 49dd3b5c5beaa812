"""Where the parts of a large JSON document begin and end, so that any of them can be read alone. Imports no torch.

A document is looked at once, a chunk at a time, as bytes: only brackets, commas and quotes matter, and those are never
a part of another character in UTF-8. Nothing is parsed; what a part holds is the business of who reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from x2kit.errors import DataError, Reason

Spans = NDArray[np.int64]
"""[K, 2]: first byte and the byte after the last one."""

_QUOTE, _BACKSLASH, _COMMA = b'"\\,'
_OPENING, _CLOSING = b"[{", b"]}"
_SPACE = b" \t\r\n"
_STEP = np.zeros(256, np.int8)
_STEP[list(_OPENING)], _STEP[list(_CLOSING)] = 1, -1
_MATTERS = _STEP != 0
_MATTERS[_COMMA] = True
_IS_SPACE = np.zeros(256, np.bool_)
_IS_SPACE[list(_SPACE)] = True


class Marks(NamedTuple):
    """The brackets and commas down to some depth.

    Attributes:
        offsets: [N] int64, in bytes.
        characters: [N] uint8.
        depths: [N] int8, brackets that are open before the mark.
    """

    offsets: NDArray[np.int64]
    characters: NDArray[np.uint8]
    depths: NDArray[np.int8]


class _State(NamedTuple):
    """What a chunk hands on to the next."""

    offset: int = 0
    in_text: bool = False
    escaped: bool = False
    depth: int = 0


def find_marks(chunks: Iterable[bytes], depth: int) -> Marks:
    """The brackets and commas of a document that stand below `depth` brackets.

    Args:
        chunks: the bytes of the document, cut anywhere.
        depth: 1 for the elements of the outermost list, 2 for the elements of lists in the outermost object.
    Raises: DataError if the document is no list or object, or ends in the middle.
    """
    state = _State()
    found: list[Marks] = []
    for chunk in chunks:
        marks, state = _marks_of(np.frombuffer(chunk, np.uint8), state, depth)
        found.append(marks)
    found.append(Marks(np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.int8)))
    marks = Marks(*(np.concatenate(part) for part in zip(*found, strict=True)))
    if not len(marks.offsets) or marks.characters[0] not in _OPENING:
        raise DataError("not a JSON list or object", reason=Reason.NOT_JSON)
    if state.depth != 0 or state.in_text:
        raise DataError("not JSON: it ends in the middle", reason=Reason.NOT_JSON)
    if np.count_nonzero((marks.depths == 0) & np.isin(marks.characters, list(_OPENING))) > 1:
        raise DataError("not JSON: something follows its end", reason=Reason.NOT_JSON)
    return marks


def parts(marks: Marks, depth: int, first: int = 0, last: int | None = None) -> Spans:
    """What commas part at one depth, between two offsets; an empty list has one part, of white space.

    Args:
        marks: of the document.
        depth: brackets that are open around the parts.
        first, last: offsets that the parts lie between; None for the end.
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


def _marks_of(chunk: NDArray[np.uint8], state: _State, depth: int) -> tuple[Marks, _State]:
    quotes = chunk == _QUOTE
    quotes_escaped, ends_escaped = _escaped(chunk, state.escaped)
    quotes[quotes_escaped] = False
    # the parity of the quotes so far; that the sum overflows does no harm to its lowest bit
    in_text = (np.cumsum(quotes, dtype=np.uint8) + np.uint8(state.in_text)) & 1
    places = np.flatnonzero(_MATTERS[chunk] & (in_text == 0))
    steps = _STEP[chunk[places]]
    after = np.cumsum(steps, dtype=np.int64) + state.depth
    if len(after) and after.min() < 0:
        raise DataError("not JSON: a bracket closes that none has opened", reason=Reason.NOT_JSON)
    before = after - steps
    kept = before < depth + (steps <= 0)  # a bracket that opens at `depth` parts nothing that is asked for
    marks = Marks(places[kept] + state.offset, chunk[places[kept]], before[kept].astype(np.int8))
    return marks, _State(
        state.offset + len(chunk),
        bool(in_text[-1]) if len(chunk) else state.in_text,
        ends_escaped if len(chunk) else state.escaped,
        int(after[-1]) if len(after) else state.depth,
    )


def _escaped(chunk: NDArray[np.uint8], first_is: bool) -> tuple[NDArray[np.int64], bool]:
    """Places of characters behind an odd number of backslashes, and whether the next chunk's first is one."""
    slashes = np.flatnonzero(chunk == _BACKSLASH)
    found = np.zeros(1 if first_is else 0, np.int64)
    if first_is and len(slashes) and slashes[0] == 0:
        slashes = slashes[1:]  # the backslash itself is what is escaped
    if len(slashes):
        breaks = np.flatnonzero(np.diff(slashes) != 1)
        run_starts = slashes[np.concatenate([[0], breaks + 1])]
        run_ends = slashes[np.concatenate([breaks, [len(slashes) - 1]])]
        found = np.concatenate([found, run_ends[(run_ends - run_starts) % 2 == 0] + 1])
    beyond = bool(len(found) and found[-1] == len(chunk))
    return (found[:-1] if beyond else found), beyond

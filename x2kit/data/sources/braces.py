"""Braces in paths, as bash and webdataset expand them: `shard-{000..003}.tar`, `{a,b}.jsonl`. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

MAX_PATHS = 100_000
"""Of one pattern: more than any data set has shards, and few enough to look for each."""
_INNERMOST = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.([1-9]\d*))?")


def expand_braces(pattern: str) -> list[str]:
    """The paths that a pattern stands for, each once.

    `{a,b}` gives each text, `{8..11}` each number, `{008..011}` each with leading zeros, `{0..9..3}` every third.
    Braces may be nested. Braces of any other content stay as they are.

    Raises: ValueError for more than `MAX_PATHS` paths.
    """
    paths = list(dict.fromkeys(islice(_expanded(pattern), MAX_PATHS + 1)))
    if len(paths) > MAX_PATHS:
        raise ValueError(f"{pattern} stands for more than {MAX_PATHS} paths")
    return paths


def _expanded(pattern: str) -> Iterator[str]:
    for braces in _INNERMOST.finditer(pattern):
        if (choices := _choices(braces[1])) is not None:
            for choice in choices:
                yield from _expanded(pattern[: braces.start()] + choice + pattern[braces.end() :])
            return
    yield pattern


def _choices(content: str) -> Iterator[str] | None:
    """What stands in one pair of braces; None for neither a list nor a range."""
    if found := _RANGE.fullmatch(content):
        first, last, step = int(found[1]), int(found[2]), int(found[3] or 1)
        padded = any(re.match(r"-?0\d", text) for text in found.group(1, 2))
        width = max(len(found[1]), len(found[2])) if padded else 0
        numbers = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
        return (f"{number:0{width}}" for number in numbers)
    return iter(content.split(",")) if "," in content else None

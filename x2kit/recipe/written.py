"""What stands in recipe files, before it has types: values that know where they were written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

Value: TypeAlias = "bool | int | float | str | list[Node] | dict[str, Node] | None"


@dataclass(frozen=True)
class Place:
    """Where a value was written.

    Attributes:
        file: the file as it is shown to people, or "command line".
        line: counted from 1; None on the command line.
        folder: what relative paths are relative to; None is the working directory.
        saved: the saved recipe that it comes from, of a run or weights directory, which is data and not the user's
            word; None for what the user wrote.
    """

    file: str
    line: int | None = None
    folder: Path | None = None
    saved: Path | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


COMMAND_LINE = Place("command line")


@dataclass(frozen=True)
class Node:
    """A value and its place; for an entry of a mapping the place is that of its key.

    Attributes:
        value: a scalar, or nodes.
        place: where it was written.
        replaced: for a component, the one of another class that was in its place before.
    """

    value: Value
    place: Place
    replaced: Node | None = None

    def plain(self) -> Any:
        """The value without places: None, bool, int, float, str, list, dict."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def child(self, name: str | int) -> Node | None:
        """The entry of this name or number, if there is one."""
        if isinstance(self.value, dict):
            return self.value.get(str(name))
        if isinstance(self.value, list) and isinstance(name, int) and name < len(self.value):
            return self.value[name]
        return None

    def descend(self, path: Sequence[str | int]) -> tuple[Node, int]:
        """The deepest node on the way down this path, and how many steps led to it."""
        node = self
        for depth, name in enumerate(path):
            below = node.child(name)
            if below is None:
                return node, depth
            node = below
        return node, len(path)

    def walk(self, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Place]]:
        """Every key below this node with its place, dots between the names."""
        if path:
            yield ".".join(path), self.place
        if isinstance(self.value, dict):
            for name, node in self.value.items():
                yield from node.walk((*path, name))


def node_of(value: Any, place: Place) -> Node:
    """Plain values as nodes that were all written in one place."""
    if isinstance(value, dict):
        return Node({str(key): node_of(item, place) for key, item in value.items()}, place)
    if isinstance(value, list | tuple):
        return Node([node_of(item, place) for item in value], place)
    if isinstance(value, Path):
        return Node(str(value), place)
    return Node(value, place)

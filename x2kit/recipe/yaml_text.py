"""Parse recipe YAML into nodes with file and line, and dump recipes as YAML.

`parse` reads files and `parse_value` values of the command line; both return `Node` trees, in which every value knows
its place. `to_yaml` and `inline` write plain values. Scalars follow YAML 1.2: `1e-4` is a number, `on` a string.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from x2kit.errors import Fault, RecipeError

WIDTH = 110
Value: TypeAlias = "bool | int | float | str | list[Node] | dict[str, Node] | None"
_NULL = re.compile(r"(|~|null|Null|NULL)\Z")
_BOOL = re.compile(r"(true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(
    r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z"
)
_INVALID = re.compile("[\0\ud800-\udfff]")
"""Characters that escapes can produce and files cannot contain: NUL and lone surrogates."""
_MAX_DIGITS = 100
"""Longer integers stay strings; Python refuses to parse very long ones."""
_MAX_VALUES = 100_000
"""Limit per file, repeated aliases included; nested aliases could otherwise exhaust memory."""


@dataclass(frozen=True)
class Place:
    """Source location of a value.

    Attributes:
        file: path as messages show it, or "command line".
        line: counted from 1; None on the command line.
        folder: base of relative paths; None for the working directory.
        saved: the saved recipe of a run or weights directory that contains the value, whose plugins need the user's
            consent; None for values that the user wrote.
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
    """A value with its place; in a mapping, the place of its key.

    Attributes:
        value: a scalar, or nodes.
        place: source location.
        replaced: for a component, the component of another class that it replaces.
    """

    value: Value
    place: Place
    replaced: Node | None = None

    def plain(self) -> Any:
        """Return the value without places: None, bool, int, float, str, list, dict."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def child(self, name: str | int) -> Node | None:
        """Return the entry of this name or index, if any."""
        if isinstance(self.value, dict):
            return self.value.get(str(name))
        if isinstance(self.value, list) and isinstance(name, int) and name < len(self.value):
            return self.value[name]
        return None

    def descend(self, path: Sequence[str | int]) -> tuple[Node, int]:
        """Return the deepest node that exists on a path, and its depth."""
        node = self
        for depth, name in enumerate(path):
            below = node.child(name)
            if below is None:
                return node, depth
            node = below
        return node, len(path)

    def walk(self, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Place]]:
        """Yield every dotted key below this node with its place."""
        if path:
            yield ".".join(path), self.place
        if isinstance(self.value, dict):
            for name, node in self.value.items():
                yield from node.walk((*path, name))


def node_of(value: Any, place: Place) -> Node:
    """Convert plain values to nodes that share one place."""
    if isinstance(value, dict):
        return Node({str(key): node_of(item, place) for key, item in value.items()}, place)
    if isinstance(value, list | tuple):
        return Node([node_of(item, place) for item in value], place)
    if isinstance(value, Path):
        return Node(str(value), place)
    return Node(value, place)


def scalar(text: str) -> bool | int | float | str | None:
    """Convert an unquoted YAML scalar to its value."""
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text[0] in "tT"
    if _INT.match(text):
        if len(text) > _MAX_DIGITS:
            return text
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.match(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def parse(data: bytes, file: str, folder: Path, saved: Path | None = None) -> Node:
    """Parse the bytes of a recipe file into a mapping.

    Args:
        data: content of the file.
        file: its path as errors show it.
        folder: base of its relative paths.
        saved: see `Place`.
    Raises: RecipeError with file and line: not UTF-8, invalid YAML, a duplicate key, not a mapping.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _error(
            Place(file, line), f"not UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8"
        ) from error
    try:
        root = _composed(text)
    except yaml.YAMLError as error:
        raise _syntax(error, text, file) from error
    except RecursionError as error:
        raise _error(Place(file), "too deeply nested") from error
    if root is None:
        raise _error(Place(file), "empty file; a recipe is a mapping like `training: {steps: 100}`")
    if not isinstance(root, yaml.MappingNode):
        raise _error(Place(file, root.start_mark.line + 1), "should be a mapping of keys to values")
    reader = _Reader(file, folder, saved=saved)
    node = reader.read(root, ())
    if reader.faults:
        raise RecipeError(reader.faults)
    return node


@lru_cache(maxsize=64)
def _composed(text: str) -> yaml.Node | None:
    """Compose a text into nodes that nobody changes; a process reads the bases of its recipes many times."""
    root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    return root


def parse_value(text: str, place: Place) -> Node:
    """Parse a command-line value: a scalar, a quoted string, a flow list or mapping.

    Text that is not valid YAML stays a string.

    Raises: RecipeError for NUL and for bytes that are invalid in the terminal's encoding.
    """
    if found := _INVALID.search(text):
        raise _error(place, f"invalid character U+{ord(found[0]):04X}")
    stripped = text.strip()
    try:
        root = yaml.compose(stripped, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return Node(text, place)
    if root is None:
        return Node(text or None, place)
    flow = isinstance(root, yaml.CollectionNode) and root.flow_style
    quoted = isinstance(root, yaml.ScalarNode) and root.style in ("'", '"')
    if flow or quoted:
        reader = _Reader(place.file, place.folder, place)
        node = reader.read(root, ())
        return Node(text, place) if reader.faults else node
    return Node(scalar(stripped), place)


class _Reader:
    """Convert composed YAML nodes to `Node` and collect faults."""

    def __init__(
        self, file: str, folder: Path | None, fixed: Place | None = None, saved: Path | None = None
    ) -> None:
        self.faults: list[Fault] = []
        self._file, self._folder, self._fixed, self._saved = file, folder, fixed, saved
        self._open: set[int] = set()
        self._values = 0

    def read(self, node: yaml.Node, path: tuple[str, ...], key: yaml.Node | None = None) -> Node:
        place = self._place(key or node)
        self._values += 1
        if self._values > _MAX_VALUES:
            raise _error(place, f"more than {_MAX_VALUES} values, repeated aliases included")
        if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
            self._fault(path, place, f"tag {node.tag} is not supported; remove it")
            return Node(None, place)
        if id(node) in self._open:
            self._fault(path, place, "the alias refers to a value that contains it")
            return Node(None, place)
        if isinstance(node, yaml.ScalarNode):
            if found := _INVALID.search(node.value):
                self._fault(path, place, f"invalid character U+{ord(found[0]):04X}")
                return Node(None, place)
            return Node(scalar(node.value) if node.style is None else node.value, place)
        self._open.add(id(node))
        value: Any
        if isinstance(node, yaml.SequenceNode):
            value = [self.read(item, (*path, str(number))) for number, item in enumerate(node.value)]
        else:
            value = self._mapping(node, path)
        self._open.discard(id(node))
        return Node(value, place)

    def _mapping(self, node: yaml.Node, path: tuple[str, ...]) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for key, item in node.value:
            place = self._place(key)
            if not isinstance(key, yaml.ScalarNode):
                self._fault(path, place, "a key should be a name, found a list or a mapping")
                continue
            name = str(key.value)
            if found := _INVALID.search(name):
                self._fault(path, place, f"invalid character U+{ord(found[0]):04X} in a key")
                continue
            if name == "<<" and key.style is None:
                self._fault(
                    path, place, "merge keys (<<) are not supported; use `base:` to extend another recipe"
                )
                continue
            if name in entries:
                self._fault((*path, name), place, f"duplicate key; first in line {entries[name].place.line}")
                continue
            entries[name] = self.read(item, (*path, name), key)
        return entries

    def _place(self, node: yaml.Node) -> Place:
        return self._fixed or Place(self._file, node.start_mark.line + 1, self._folder, self._saved)

    def _fault(self, path: tuple[str, ...], place: Place, message: str) -> None:
        self.faults.append(Fault(".".join(path), str(place), message))


def _error(place: Place, message: str) -> RecipeError:
    return RecipeError([Fault("", str(place), message)])


def _syntax(error: yaml.YAMLError, text: str, file: str) -> RecipeError:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return _error(
            Place(file, line), f"character U+{ord(text[error.position]):04X} is not allowed in YAML"
        )
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return _error(Place(file), f"not YAML: {error}")
    mark = error.problem_mark
    written = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
    if "\t" in written[: mark.column + 1]:
        return _error(Place(file, mark.line + 1), "found a tab in the indentation; indent with spaces")
    parts = [str(part) for part in (error.context, error.problem) if part]
    message = f"not YAML: {', '.join(parts)} (column {mark.column + 1})"
    return _error(
        Place(file, mark.line + 1), f"{message}\n  {written.strip()}" if written.strip() else message
    )


def to_yaml(values: dict[str, Any], origin: Callable[[str], str] | None = None) -> str:
    """Dump plain values as block YAML; lists of scalars stay on one line.

    Args:
        values: dump of a recipe.
        origin: returns the comment to append to a dotted key's value.
    """
    lines = list(_mapping(values, 0, (), origin))
    return "\n".join(lines) + "\n"


def _mapping(
    values: dict[str, Any], depth: int, path: tuple[str, ...], origin: Callable[[str], str] | None
) -> Iterator[str]:
    for name, value in values.items():
        key = (*path, str(name))
        head = "  " * depth + f"{inline(str(name))}:"
        if isinstance(value, dict) and value:
            yield head
            yield from _mapping(value, depth + 1, key, origin)
        elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
            yield head
            block = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)
            yield from ("  " * (depth + 1) + line for line in block.splitlines())
        else:
            comment = f"  # {origin('.'.join(key))}" if origin else ""
            yield f"{head} {inline(value)}{comment}"


def inline(value: Any) -> str:
    """Dump a value as YAML on one line."""
    text = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=True,
        allow_unicode=True,
        width=float("inf"),
        sort_keys=False,
    )
    return text.removesuffix("\n").removesuffix("\n...")


class _Dumper(yaml.SafeDumper):
    """Quote strings that YAML 1.2 parsers would read as another type, such as `1e-4`."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = None if value.isprintable() and isinstance(scalar(value), str) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)

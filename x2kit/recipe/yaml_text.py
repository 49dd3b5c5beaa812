"""What stands in recipe files, before it has types: values that know where they were written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from x2kit.errors import Fault, RecipeError

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


_NULL = re.compile(r"(|~|null|Null|NULL)\Z")
_BOOL = re.compile(r"(true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(
    r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z"
)
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""What quoted texts can spell and no file can hold: half a character, and the end of a name."""
_DIGITS = 100
"""More than any number of a recipe has; longer ones are left as texts, for Python refuses to read the longest."""
_VALUES = 100_000
"""Of one file, those that aliases repeat counted each time: a few lines of aliases of aliases could fill the memory."""


def scalar(text: str) -> bool | int | float | str | None:
    """What an unquoted scalar means."""
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text[0] in "tT"
    if _INT.match(text):
        if len(text) > _DIGITS:
            return text
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.match(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def parse(data: bytes, file: str, folder: Path, saved: Path | None = None) -> Node:
    """The mapping that a recipe file holds.

    Args:
        data: the bytes of the file.
        file: its name as people should see it in errors.
        folder: what relative paths in it are relative to.
        saved: see `Place`.
    Raises: RecipeError with file and line: not UTF-8, broken YAML, a key that stands twice, no mapping.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _refused(
            Place(file, line), f"not UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8"
        ) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise _syntax(error, text, file) from error
    except RecursionError as error:
        raise _refused(Place(file), "nested too deeply to be a recipe") from error
    if root is None:
        raise _refused(
            Place(file), "the file holds nothing; a recipe is a mapping like `training: {steps: 100}`"
        )
    if not isinstance(root, yaml.MappingNode):
        raise _refused(Place(file, root.start_mark.line + 1), "a recipe is a mapping of keys to values")
    reader = _Reader(file, folder, saved=saved)
    node = reader.read(root, ())
    if reader.faults:
        raise RecipeError(reader.faults)
    return node


def parse_value(text: str, place: Place) -> Node:
    """A value of the command line: a scalar, a quoted text, a flow list or mapping; else the text itself.

    Raises: RecipeError for bytes that were no text in the terminal's encoding.
    """
    if found := _NO_TEXT.search(text):
        raise _refused(place, f"character U+{ord(found[0]):04X} is no part of a text")
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
    """Turns composed YAML nodes into ours and collects what is wrong with them."""

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
        if self._values > _VALUES:
            raise _refused(place, f"more than {_VALUES} values, those that aliases repeat included")
        if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
            self._fault(path, place, f"the tag {node.tag} has no meaning in a recipe; remove it")
            return Node(None, place)
        if id(node) in self._open:
            self._fault(path, place, "the alias refers to a value that holds it")
            return Node(None, place)
        if isinstance(node, yaml.ScalarNode):
            if found := _NO_TEXT.search(node.value):
                self._fault(path, place, f"character U+{ord(found[0]):04X} is no part of a text")
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
                self._fault(path, place, "a key is a name, not a list or a mapping")
                continue
            name = str(key.value)
            if found := _NO_TEXT.search(name):
                self._fault(path, place, f"a key with the character U+{ord(found[0]):04X}")
                continue
            if name == "<<" and key.style is None:
                self._fault(
                    path, place, "merge keys (<<) are not read; start from another recipe with `base:`"
                )
                continue
            if name in entries:
                self._fault(
                    (*path, name), place, f"stands twice; the first is in line {entries[name].place.line}"
                )
                continue
            entries[name] = self.read(item, (*path, name), key)
        return entries

    def _place(self, node: yaml.Node) -> Place:
        return self._fixed or Place(self._file, node.start_mark.line + 1, self._folder, self._saved)

    def _fault(self, path: tuple[str, ...], place: Place, message: str) -> None:
        self.faults.append(Fault(".".join(path), str(place), message))


def _refused(place: Place, message: str) -> RecipeError:
    return RecipeError([Fault("", str(place), message)])


def _syntax(error: yaml.YAMLError, text: str, file: str) -> RecipeError:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return _refused(
            Place(file, line), f"character U+{ord(text[error.position]):04X} may not stand in YAML"
        )
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return _refused(Place(file), f"not YAML: {error}")
    mark = error.problem_mark
    written = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
    if "\t" in written[: mark.column + 1]:
        return _refused(
            Place(file, mark.line + 1), "a tab stands where YAML wants spaces; indent with spaces"
        )
    parts = [str(part) for part in (error.context, error.problem) if part]
    message = f"not YAML: {', '.join(parts)} (column {mark.column + 1})"
    return _refused(
        Place(file, mark.line + 1), f"{message}\n  {written.strip()}" if written.strip() else message
    )


WIDTH = 110


def to_yaml(values: dict[str, Any], origin: Callable[[str], str] | None = None) -> str:
    """Plain values as YAML in block style; lists of scalars stand in one line.

    Args:
        values: what a recipe dumps.
        origin: from a key with dots to the comment that follows its value.
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
    """A value as YAML in one line."""
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
    """Quotes what would otherwise be read as another type by YAML 1.2 readers that know `1e-4`."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:

    style = None if value.isprintable() and isinstance(scalar(value), str) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)

"""YAML text to values that know their line. As in YAML 1.2, `1e-4` is a number and `no` a text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from x2kit.errors import Fault, RecipeError
from x2kit.recipe.written import Node, Place

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

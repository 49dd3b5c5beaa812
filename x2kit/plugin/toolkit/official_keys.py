"""Names of released checkpoints: one table a component, own names on the left, official ones on the right.

Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from x2kit.errors import WeightsError

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of an official checkpoint's tensors by name, the part of one component, its prefix taken off."""

_FIELD = re.compile(r"\{(?P<name>\w+)(?:(?P<sign>[+-])(?P<shift>\w+))?\}")


class NameTable:
    """Lines of (own name, official name), with fields for what varies.

    `{layer}` stands for one part of a name, `{rest}` for any number of them; on the official side
    `{layer+2}`, `{layer-1}` and `{layer+first}` shift a number. An official side `a + b` is two tensors, one
    above the other in the own one:

        ("blocks.{block}.attn.qkv.{leaf}", "layer.{block+first}.query.{leaf} + layer.{block+first}.key.{leaf}")

    Args:
        lines: the first that fits a name counts.
        numbers: values of shifts that are written as words.
    """

    def __init__(self, lines: Sequence[tuple[str, str]], **numbers: int) -> None:
        self._lines = [(_pattern(own), official) for own, official in lines]
        self._numbers = numbers

    def official(self, own: str) -> tuple[str, ...]:
        """The official tensors that make up an own one. Raises WeightsError if no line fits."""
        for pattern, official in self._lines:
            if found := pattern.fullmatch(own):
                return tuple(self._fill(part.strip(), found.groupdict()) for part in official.split(" + "))
        raise WeightsError(f"{own}: no line of the component's table of official names fits")

    def of(self, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Official names of many own ones."""
        return {name: self.official(name) for name in names}

    def _fill(self, template: str, values: Mapping[str, str]) -> str:
        def value(field: re.Match[str]) -> str:
            found, shift = values[field["name"]], field["shift"]
            if shift is None:
                return found
            by = int(shift) if shift.isdecimal() else self._numbers[shift]
            return str(int(found) + (by if field["sign"] == "+" else -by))

        return _FIELD.sub(value, template)


def _pattern(own: str) -> re.Pattern[str]:
    parts, place = [], 0
    for field in _FIELD.finditer(own):
        parts.append(re.escape(own[place : field.start()]))
        parts.append(f"(?P<{field['name']}>{'.+' if field['name'] == 'rest' else '[^.]+'})")
        place = field.end()
    return re.compile("".join(parts) + re.escape(own[place:]))


def count(names: Iterable[str], pattern: str) -> int:
    """How many different numbers `{n}` has in the names that begin with a pattern, such as `blocks.{n}.`."""
    compiled = re.compile(re.escape(pattern).replace(re.escape("{n}"), r"(\d+)"))
    return len({found[1] for name in names if (found := compiled.match(name))})


def usual_heads(width: int, others: int | None = None) -> int:
    """Attention heads of a width, which no tensor's shape tells: 64 wide each, as in every released model.

    Args:
        width: of the layers.
        others: heads of another encoder of the checkpoint, taken for a width that is no multiple of 64.
    """
    if width % 64 == 0:
        return width // 64
    return others if others and width % others == 0 else 1

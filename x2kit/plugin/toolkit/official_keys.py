"""Map tensor names to those of official checkpoints, by one table per component. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from x2kit.errors import WeightsError

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of one component's tensors in an official checkpoint, by name without prefix."""

_FIELD = re.compile(r"\{(?P<name>\w+)(?:(?P<sign>[+-])(?P<shift>\w+))?\}")


class NameTable:
    """Lines of (own name, official name) with fields.

    `{layer}` matches one part of a name, `{rest}` any number of them; on the official side `{layer+2}`, `{layer-1}`
    and `{layer+first}` shift a number. An official side `a + b` is two tensors, concatenated in the own one:

        ("blocks.{block}.attn.qkv.{leaf}", "layer.{block+first}.query.{leaf} + layer.{block+first}.key.{leaf}")

    Args:
        lines: the first that matches a name is used.
        numbers: values of named shifts.
    """

    def __init__(self, lines: Sequence[tuple[str, str]], **numbers: int) -> None:
        self._lines = [(_pattern(own), official) for own, official in lines]
        self._numbers = numbers

    def official(self, own: str) -> tuple[str, ...]:
        """Return the official names of a tensor. Raises WeightsError if no line matches."""
        for pattern, official in self._lines:
            if found := pattern.fullmatch(own):
                return tuple(self._fill(part.strip(), found.groupdict()) for part in official.split(" + "))
        raise WeightsError(f"{own}: no line of the component's table of official names matches")

    def of(self, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return the official names of each name."""
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
    """Count the distinct numbers `{n}` in names that start with a pattern, such as `blocks.{n}.`."""
    compiled = re.compile(re.escape(pattern).replace(re.escape("{n}"), r"(\d+)"))
    return len({found[1] for name in names if (found := compiled.match(name))})


def usual_heads(width: int, others: int | None = None) -> int:
    """Guess the attention heads of a width, which no shape defines: 64 wide each, as in every released model.

    Args:
        width: width of the layers.
        others: heads of another encoder of the checkpoint, used if the width is not a multiple of 64.
    """
    if width % 64 == 0:
        return width // 64
    return others if others and width % others == 0 else 1

"""Recipes as YAML text, with the origin of each value beside it where that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import yaml

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
    from x2kit.recipe.yaml_text import scalar

    style = None if value.isprintable() and isinstance(scalar(value), str) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)

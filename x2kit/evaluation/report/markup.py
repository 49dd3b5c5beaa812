"""HTML and SVG from Python: every text is escaped unless it was made here."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias

Child: TypeAlias = "str | Iterable[Child] | None"
Attribute: TypeAlias = str | float | bool | None

_VOID = frozenset({"img", "br", "meta", "link"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *children: Child, **attributes: Attribute) -> Markup:
    """An element.

    Args:
        children: texts, which are escaped; Markup, which is kept; lists of both; None for nothing.
        attributes: an underscore at the end is dropped, others become hyphens; False and None leave the
            attribute out, True writes its name alone.
    """
    opening = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{opening}>")
    return Markup(f"<{name}{opening}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Several pieces, one after the other; as in `tag`."""
    return Markup("".join(_html(child) for child in children))


def number(value: float) -> str:
    """A coordinate: one decimal is finer than any screen."""
    return f"{value:.1f}".removesuffix(".0")


def _html(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    return escape(child) if isinstance(child, str) else join(*child)


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.removesuffix("_").replace("_", "-")
    if value is True:
        return f" {name}"
    return f' {name}="{escape(value if isinstance(value, str) else number(value))}"'

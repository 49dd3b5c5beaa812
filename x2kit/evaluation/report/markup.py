"""Build HTML and SVG elements; every text is escaped unless it is Markup."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias

Child: TypeAlias = "str | Iterable[Child] | None"
Attribute: TypeAlias = str | float | bool | None

_VOID = frozenset({"img", "br", "meta", "link"})


class Markup(str):
    """Text that is already HTML."""

    __slots__ = ()


def tag(name: str, *children: Child, **attributes: Attribute) -> Markup:
    """Build an element.

    Args:
        children: texts (escaped), Markup (kept), iterables of both, or None (omitted).
        attributes: a trailing underscore is dropped, other underscores become hyphens; False and None omit the
            attribute, True writes its name only.
    """
    opening = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{opening}>")
    return Markup(f"<{name}{opening}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Concatenate children, as in `tag`."""
    return Markup("".join(_html(child) for child in children))


def number(value: float) -> str:
    """Format a coordinate with at most one decimal."""
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

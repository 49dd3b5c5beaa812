"""Every message on the troubleshooting page is a string of the code, with … for inserted values."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from .pages import DOCS, ROOT

PAGE = DOCS / "troubleshooting.md"
HOLE = "…"


def listed(page: str) -> list[str]:
    """The messages in its tables."""
    tables = re.findall(r"^\| message \|.*\n\| --- .*\n((?:\|.*\n)+)", page, re.MULTILINE)
    return [re.findall(r"^\| `(.+?)` \|", row)[0] for table in tables for row in table.splitlines()]


def text_of(node: ast.AST) -> str | None:
    """A text as it is written in the code, with holes; None for what is no text."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or HOLE for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = text_of(node.left), text_of(node.right)
        return None if sides == (None, None) else "".join(side or HOLE for side in sides)
    return None


@cache
def texts() -> tuple[str, ...]:
    """All texts of the code but docstrings, holes that stand side by side as one."""
    found = []
    for folder in ("x2kit", "plugins"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            found += [text_of(node) for node in ast.walk(tree) if id(node) not in alone]
    return tuple(re.sub(f"{HOLE}+", HOLE, text) for text in found if text)


def is_given(message: str) -> bool:
    return any(message in text for text in texts())


@pytest.mark.parametrize("message", listed(PAGE.read_text(encoding="utf-8")))
def test_every_message_is_in_the_code(message: str) -> None:
    assert is_given(message)


@pytest.mark.parametrize("message", ["unknown keys", "a tab stands where YAML wants tabs", "… pixels are …"])
def test_a_changed_message_is_detected(message: str) -> None:
    assert not is_given(message)


def test_messages_are_distinct() -> None:
    messages = listed(PAGE.read_text(encoding="utf-8"))
    assert len(set(messages)) == len(messages) > 60


def test_all_tables_are_read() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(listed(text)) == len(re.findall(r"^\| `", text, re.MULTILINE))

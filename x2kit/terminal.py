"""Terminal output that prints texts literally. Imports no torch."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import TextColumn


class PlainConsole(Console):
    """Print texts without markup, emoji codes or highlighting.

    Paths, ids and captions come from the user's data: rich would print `a.jsonl:100:` as `a.jsonl💯` and drop `[en]`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)


class PlainColumn(TextColumn):
    """Show a progress column's text without markup or emoji codes."""

    def __init__(self, text_format: str) -> None:
        super().__init__(text_format, markup=False)

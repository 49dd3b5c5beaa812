"""Extension of griffe: set the one-line sections of x2kit's docstrings apart as paragraphs."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class OneLineSections(Extension):
    """Start a paragraph at `Returns: ...` and `Raises: ...`, which Google's style has on lines of their own."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring before it is parsed."""
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"^(Returns|Raises|Yields): (?=\S)", r"\n**\1:** ", obj.docstring.value, flags=re.MULTILINE
            )

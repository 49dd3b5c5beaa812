"""The tokenizer is saved in another order than it has."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.testing.wrong.right import Letters, RightText
from x2kit.plugin import Tokenizer


class TokenizerChanges(RightText):
    """The tokenizer is saved in another order than it has."""

    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        found = super().build_tokenizer(texts, assets)
        return found if assets is None else Letters(found.letters[::-1])

"""The word embedding has no row for the tokenizer's last ids."""

from __future__ import annotations

from typing import Any

from tests.testing.wrong.right import RightText


class SmallVocabulary(RightText):
    """The word embedding has no row for the tokenizer's last ids."""

    def network(self) -> Any:
        from tests.testing.wrong.networks import Text
        from x2kit.plugin import Tokenizer

        class Network(Text):
            def rows(self, tokenizer: Tokenizer) -> int:
                return tokenizer.vocab_size - 2

        return Network

"""Read the texts of all streams, to train a tokenizer on them. Imports no torch.

    tokenizer = build_started_tokenizer(recipe.model, training_texts(recipe.data))

Texts are cleaned as in training, so the tokenizer is trained on the characters that it will encode.
"""

from __future__ import annotations

from collections.abc import Iterator

from x2kit.data.config import DataConfig
from x2kit.data.transforms.text import clean, clean_text_alone
from x2kit.errors import DataError
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.components import SourceConfig


def training_texts(data: DataConfig) -> Iterator[str]:
    """Yield every text of every stream, cleaned as the stream cleans it, without opening an image.

    Equal sources are read once. A text that is empty after cleaning is skipped here; the stream that draws it counts
    it as a broken record.

    Args:
        data: streams and limits of the recipe.
    Raises: DataError if a source cannot be opened; PluginError if a source of a plugin fails.
    """
    data.limits.apply()
    read: list[tuple[SourceConfig, bool]] = []
    for stream in data.streams.values():
        text_only = stream.layout == "texts"
        if (stream.source, text_only) in read:
            continue
        read.append((stream.source, text_only))
        cleaned = clean_text_alone if text_only else clean
        with component_faults(stream.source):
            for text in stream.source.open().texts():
                try:
                    yield cleaned(text, stream.max_words)
                except DataError:
                    continue

"""The texts of a run, for a tokenizer that is trained on them. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from x2kit.data.config import DataConfig
from x2kit.data.text import clean, clean_text_alone
from x2kit.errors import DataError
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.components import SourceConfig


def training_texts(data: DataConfig) -> Iterator[str]:
    """Every text of every stream, cleaned as the stream cleans it; no picture is opened.

    Equal sources are read once. A text of which nothing remains is left out here: the stream that draws it
    counts it as broken.
    """
    data.limits.apply()
    read: list[tuple[SourceConfig, bool]] = []
    for stream in data.streams.values():
        plain = stream.kind == "text"
        if (stream.source, plain) in read:
            continue
        read.append((stream.source, plain))
        with component_faults(stream.source):
            for text in stream.source.open().texts():
                try:
                    yield clean_text_alone(text, stream.max_words) if plain else clean(text, stream.max_words)
                except DataError:
                    continue

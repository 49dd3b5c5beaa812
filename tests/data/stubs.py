"""A source without files and a word tokenizer, for tests of the data pipeline."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import x2kit.tasks
from x2kit.data.config import StreamConfig
from x2kit.data.pipeline.task_rows import PretrainingRow, draw_pretraining
from x2kit.data.transforms.view import View
from x2kit.errors import DataError
from x2kit.plugin import ImageSpec, Record, SourceConfig, SpecialIds, TaskConfig, Tokenizer

WORDS = ("dog", "cat", "sun", "tree", "boat", "star", "fish", "bell")
LANGUAGES = ("en", "de", "fr")


class Scenes:
    """Scenes of coloured noise, seeded by their number."""

    def __init__(self, config: StubScenes) -> None:
        self.config = config
        self.opened: list[int] = []

    def __len__(self) -> int:
        return self.config.count

    def __getitem__(self, index: int) -> Record:
        self.opened.append(index)
        config = self.config
        if index in config.broken:
            raise DataError(f"scenes.jsonl:{index}: not JSON")
        rng = np.random.default_rng(index)
        side = config.side
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        names = [
            WORDS[number] for number in rng.choice(len(WORDS), size=1 + index % config.regions, replace=False)
        ]
        regions = [
            {"bbox": [number * 8, number * 4, side // 2, side // 4], "caption": spoken(name)}
            for number, name in enumerate(names)
        ]
        record: dict[str, Any] = {
            "id": f"scene-{index}",
            "image": Image.fromarray(pixels),
            "caption": {code: ", ".join(spoken(name)[code] for name in names) for code in LANGUAGES},
            "regions": regions,
            "texts": spoken(names[0]),
        }
        if index in config.undecodable:
            record["image"] = b"no image at all"
        if index in config.outside:
            record["regions"] = [{"bbox": [side - 2, 0, 5, 5], "caption": "dog"}]
        if config.encoded:
            buffer = io.BytesIO()
            record["image"].save(buffer, format="PNG")
            record["image"] = buffer.getvalue()
        return record  # type: ignore[return-value]

    def texts(self) -> Iterator[str]:
        yield from (text for word in WORDS for text in spoken(word).values())
        yield "..."

    def fingerprint(self) -> str:
        return str(self.config.count)


class StubScenes(SourceConfig):
    count: int = 12
    side: int = 32
    regions: int = 3
    broken: tuple[int, ...] = ()
    undecodable: tuple[int, ...] = ()
    outside: tuple[int, ...] = ()
    encoded: bool = False

    def check(self) -> None:
        return

    def languages(self) -> tuple[str, ...]:
        return LANGUAGES

    def open(self) -> Scenes:
        return Scenes(self)


class WordTokenizer(Tokenizer):
    """One id per word; words of more than four letters have a second piece."""

    special = SpecialIds(pad=1, cls=0, sep=2, unk=3, mask=999)
    vocab_size = 1000

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        return [[0, *self._pieces(text)[: max_length - 2], 2] for text in texts]

    def _pieces(self, text: str) -> list[int]:
        pieces = []
        for word in text.split():
            pieces.append(4 + 2 * (zlib.crc32(word[:4].encode()) % 497))
            if len(word) > 4:
                pieces.append(5 + 2 * (zlib.crc32(word[4:].encode()) % 497))
        return pieces

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def starts_word(self, ids: Sequence[int]) -> list[bool]:
        return [id_ < 4 or id_ == 999 or id_ % 2 == 0 for id_ in ids]

    def save(self, directory: Path) -> None:
        raise NotImplementedError


def spoken(word: str) -> dict[str, str]:
    """A word in three languages."""
    return {"en": word, "de": f"{word}chen", "fr": f"le {word}"}


def stream(task: TaskConfig | str, **settings: Any) -> StreamConfig:
    """A small stream without augmentation; settings of a named task of pretraining go to the task."""
    source = settings.pop("source", StubScenes())
    transform = {"crop_scale": None, "flip": 0, "augment_operations": 0, **settings.pop("transform", {})}
    if isinstance(task, str):
        component = getattr(x2kit.tasks, task)
        own = [name for name in component.model_fields if name in settings]
        task = component(**{name: settings.pop(name) for name in own})
    return StreamConfig.model_validate(
        {"task": task, "source": source, "batch_size": 4, "transform": transform, **settings}
    )


def drawn(
    record: Any, config: StreamConfig, spec: ImageSpec, rng: np.random.Generator, shared: View | None = None
) -> PretrainingRow:
    """The row that a stream of pretraining draws from a record."""
    return draw_pretraining(config.task.build(), record, config, spec, rng, shared)

"""Records with chosen texts and boxes, and a tiny model whose answers depend on every token and patch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from tests.data.stubs import WORDS, WordTokenizer, spoken
from x2kit.model import X2VLM
from x2kit.model.config import HeadsConfig
from x2kit.plugin import (
    Context,
    FusionEncoder,
    FusionEncoderConfig,
    FusionFacts,
    ImageSpec,
    Record,
    SourceConfig,
    TaskContext,
    TextEncoder,
    TextEncoderConfig,
    TextFacts,
    Tokenizer,
    VisionEncoder,
    VisionEncoderConfig,
    VisionFacts,
    VisionFeatures,
)

WIDTH = 8
LONGEST = 12
SPEC = ImageSpec(size=16)


class Patches(VisionEncoder):
    """Four patches and their mean."""

    image_spec, width, grid = SPEC, WIDTH, (2, 2)

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 8, 8)

    def forward(self, images: Tensor) -> VisionFeatures:
        patches = self.patch(images).flatten(2).transpose(1, 2)
        return VisionFeatures(patches.mean(1), patches, self.grid)


class Words(TextEncoder):
    """Embeddings; position 0 has the mean of the kept ones added."""

    width, max_length = WIDTH, LONGEST

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.embedding = nn.Embedding(tokenizer.vocab_size, WIDTH)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        kept = self.embedding(ids) * mask[..., None]
        mean = kept.sum(1, keepdim=True) / mask.sum(1)[:, None, None]
        return torch.cat([kept[:, :1] + mean, kept[:, 1:]], 1)


class Attend(FusionEncoder):
    """One attention of the kept tokens over their context; position 0 has the mean of the others added."""

    width = WIDTH
    attention_layers = 1

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)

    def forward(
        self, text: Tensor, text_mask: Tensor, context: Context | None, summary_rows: int = 0
    ) -> Tensor:
        return (
            self._summed(text, text_mask) if context is None else self.attend(text, text_mask, context, 0)[0]
        )

    def attend(self, text: Tensor, text_mask: Tensor, context: Context, layer: int) -> tuple[Tensor, Tensor]:
        tokens, mask = context.expand()
        scores = self.query(text) @ tokens.transpose(1, 2)
        probabilities = scores.masked_fill(~mask[:, None], -torch.inf).softmax(-1)[:, None]
        return self._summed(text + probabilities[:, 0] @ tokens, text_mask), probabilities

    def _summed(self, fused: Tensor, text_mask: Tensor) -> Tensor:
        kept = fused * text_mask[..., None]
        mean = kept.sum(1, keepdim=True) / text_mask.sum(1)[:, None, None]
        return torch.cat([fused[:, :1] + mean, fused[:, 1:]], 1)


class SavedWords(WordTokenizer):
    """Leaves nothing behind: it is the same every time."""

    def save(self, directory: Path) -> None:
        return


class StubVision(VisionEncoderConfig):
    def describe(self) -> VisionFacts:
        return VisionFacts(SPEC, WIDTH, (2, 2))

    def build(self, assets: Path | None = None) -> VisionEncoder:
        return Patches()


class StubText(TextEncoderConfig):
    def describe(self) -> TextFacts:
        return TextFacts(WIDTH, LONGEST, WordTokenizer.vocab_size)

    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        return SavedWords()

    def build(self, tokenizer: Tokenizer, assets: Path | None = None) -> TextEncoder:
        return Words(tokenizer)


class StubFusion(FusionEncoderConfig):
    def describe(self, text_width: int, context_width: int) -> FusionFacts:
        return FusionFacts(WIDTH, 1)

    def build(self, text_width: int, context_width: int, assets: Path | None = None) -> FusionEncoder:
        return Attend()


HEADS = HeadsConfig(embed_dim=4, tie_mlm=False)


def tiny_model() -> X2VLM:
    """Untrained; its matching and box heads answer differently for every pair."""
    torch.manual_seed(0)
    model = X2VLM(Patches(), Words(SavedWords()), Attend(), HEADS)
    for head in (model.itm_head, model.bbox_head):
        nn.init.normal_(head[-1].weight)
    return model.eval()


class Listed:
    """A source of the records that it was given."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]

    def texts(self) -> Iterator[str]:
        return iter(WORDS)

    def fingerprint(self) -> str:
        return "listed"


class StubPhotos(SourceConfig):
    """Records of several captions, in English and German."""

    split: str = "train"
    count: int = 9
    told: bool = True

    def check(self) -> None:
        return

    def languages(self) -> tuple[str, ...] | None:
        return ("en", "de") if self.told else None

    def open(self) -> Listed:
        return Listed([photo(index, captions=1 + index % 3) for index in range(self.count)])


def image(index: int, size: tuple[int, int] = (24, 16)) -> Image.Image:
    """Noise that follows from a number."""
    pixels = np.random.default_rng(index).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def photo(index: int, captions: int = 1, **changes: Any) -> Record:
    """A record with captions of different lengths and two regions."""
    words = [WORDS[(index + step) % len(WORDS)] for step in range(4)]

    def told(words: list[str], end: str = "") -> dict[str, str]:
        return {code: " ".join(spoken(word)[code] for word in words) + end for code in ("en", "de")}

    record: dict[str, Any] = {
        "id": f"photo-{index}",
        "image": image(index),
        "caption": [told(words[: 1 + number], f" {index}") for number in range(captions)],
        "regions": [
            {"bbox": [0, 0, 12, 8], "caption": told(words[:1])},
            {"bbox": [6, 4, 18, 12], "caption": told(words[1:2])},
        ],
        **changes,
    }
    return record  # type: ignore[return-value]


def task_context(model: X2VLM) -> Callable[..., TaskContext]:
    """Return a function that builds a task context over nine records; keyword arguments replace fields."""

    def make(**changes: Any) -> TaskContext:
        parts: dict[str, Any] = {
            "model": model,
            "source": Listed([photo(index, captions=1 + index % 3) for index in range(9)]),
            "split": "test",
            "languages": ("en", "de"),
            "trained_with_images": ("en",),
            "device": model.device,
            "batch_size": 4,
            "progress": lambda what, done, total: None,
        }
        return TaskContext(**{**parts, **changes})

    return make

"""Components under test by kind: build them and create their inputs, deterministically."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from x2kit.plugin.components import (
    ComponentConfig,
    FusionEncoderConfig,
    ObjectiveConfig,
    SourceConfig,
    TextEncoderConfig,
    VisionEncoderConfig,
)
from x2kit.plugin.encoders import (
    Context,
    Encoder,
    FusionEncoder,
    TextEncoder,
    VisionEncoder,
    VisionFeatures,
)
from x2kit.plugin.objectives import EncodedTexts, StreamFeatures
from x2kit.plugin.tasks import RowLayout
from x2kit.plugin.tokenizers import Tokenizer
from x2kit.plugin.training import ReporterConfig

SEED = 20221
TEXTS = (
    "a red apple on a wooden table",
    "two dogs run along the beach",
    "ein roter Apfel",
    "deux chiens courent sur la plage",
    "一只狗, 一个苹果",
    "собака и яблоко",
    "a dog",
    "an apple, a pear and a green bottle stand on the table by the window",
)
ROWS = 4


class Subject:
    """A component under test."""

    def __init__(self, component: ComponentConfig) -> None:
        self.component = component

    def generator(self) -> torch.Generator:
        """Return a generator with the same seed in every check."""
        return torch.Generator().manual_seed(SEED)


class Traced(nn.Module):
    """An encoder as a module of tensors only, for `torch.export`.

    Args:
        encoder: under test.
        call: calls it and returns tensors.
    """

    def __init__(self, encoder: Encoder, call: Callable[..., tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.encoder, self.call = encoder, call

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.call(self.encoder, *inputs)


class EncoderSubject(Subject, ABC):
    """An encoder under test, built with a fixed seed in eval mode, and its fixed inputs."""

    @property
    def longest(self) -> int | None:
        """Largest text length that it is traced for; None for any."""
        return None

    @abstractmethod
    def make(self, assets: Path | None) -> Encoder:
        """Build the encoder as the model does."""

    @abstractmethod
    def run(
        self, encoder: Any, dtype: torch.dtype = torch.float32, others: bool = False
    ) -> tuple[Tensor, ...]:
        """Return all outputs for the fixed inputs, or for `others` of the same shapes."""

    def outputs(self, encoder: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return all outputs for inputs of `sized`."""
        raise NotImplementedError

    def sized(self, rows: int, length: int) -> dict[Tensor, tuple[str, ...]]:
        """Return inputs of up to 4 rows and texts of up to 5 tokens, with the names of their leading free axes."""
        raise NotImplementedError

    def build(self, assets: Path | None = None, seed: int = SEED) -> Any:
        """Build the encoder in eval mode; the global random state is restored."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.make(assets).eval()

    def save(self, encoder: Encoder, directory: Path) -> None:
        """Write all files needed to build it again."""
        encoder.save_assets(directory)


class VisionSubject(EncoderSubject):
    """A vision encoder and images."""

    component: VisionEncoderConfig

    def make(self, assets: Path | None) -> VisionEncoder:
        return self.component.build(assets)

    def images(self, rows: int = ROWS, dtype: torch.dtype = torch.float32) -> Tensor:
        """[rows, C, H, W], normalised."""
        image = self.component.describe().image
        shape = (rows, image.channels, image.size, image.size)
        return torch.randn(shape, generator=self.generator()).to(dtype)

    def run(
        self, encoder: Any, dtype: torch.dtype = torch.float32, others: bool = False
    ) -> tuple[Tensor, ...]:
        images = self.images(dtype=dtype)
        return self.outputs(encoder, images.flip(0) * 3 if others else images)

    def outputs(self, encoder: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
        features = encoder(*inputs)
        return features.summary, features.patches

    def sized(self, rows: int, length: int) -> dict[Tensor, tuple[str, ...]]:
        return {self.images(rows): ("batch",)}


class TextSubject(EncoderSubject):
    """A text encoder, its tokenizer, and texts.

    Args:
        component: a text encoder's settings.
        texts: texts to train the tokenizer and to encode; at least three distinct ones.
    """

    component: TextEncoderConfig

    def __init__(self, component: TextEncoderConfig, texts: Sequence[str] = TEXTS) -> None:
        super().__init__(component)
        if len(set(texts)) < 3:
            raise ValueError("the checks of text encoders need at least three distinct texts")
        self.texts = list(texts)
        self._tokenizer: Tokenizer | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The component's tokenizer, built once."""
        if self._tokenizer is None:
            self._tokenizer = self.component.build_tokenizer(self.texts)
        return self._tokenizer

    @property
    def longest(self) -> int:
        return self.component.describe().max_length

    def make(self, assets: Path | None) -> TextEncoder:
        return self.component.build(self.tokenizer, assets)

    def save(self, encoder: Encoder, directory: Path) -> None:
        encoder.save_assets(directory)
        self.tokenizer.save(directory)

    def batch(self, extra: int = 0) -> tuple[Tensor, Tensor]:
        """Return padded ids [B, L] and mask [B, L] of the texts, with `extra` columns of padding."""
        limit = self.component.describe().max_length
        return self.pad(self.tokenizer.encode(self.texts, limit), extra)

    def pad(self, rows: Sequence[Sequence[int]], extra: int = 0) -> tuple[Tensor, Tensor]:
        """Pad rows of ids to the longest and `extra` more."""
        length = max(len(row) for row in rows) + extra
        pad = self.tokenizer.special.pad
        ids = torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        return ids, torch.arange(length)[None] < lengths[:, None]

    def run(
        self, encoder: Any, dtype: torch.dtype = torch.float32, others: bool = False
    ) -> tuple[Tensor, ...]:
        ids, mask = self.batch()
        if others:
            ids, mask = ids.flip(0), mask.flip(0)
        return self.outputs(encoder, ids, mask)

    def outputs(self, encoder: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
        ids, mask = inputs
        return (encoder(ids, mask) * mask[..., None],)

    def sized(self, rows: int, length: int) -> dict[Tensor, tuple[str, ...]]:
        ids, mask = self.batch(extra=5)
        free = ("batch", "length")
        return {ids[:rows, :length].clone(): free, mask[:rows, :length].clone(): free}


class FusionSubject(EncoderSubject):
    """A fusion encoder, text rows, and shared contexts.

    Args:
        component: a fusion encoder's settings.
        text_width: D of the text rows.
        context_width: Dc of the contexts.
    """

    component: FusionEncoderConfig

    def __init__(self, component: FusionEncoderConfig, text_width: int = 16, context_width: int = 24) -> None:
        super().__init__(component)
        self.text_width = text_width
        self.context_width = context_width

    def make(self, assets: Path | None) -> FusionEncoder:
        return self.component.build(self.text_width, self.context_width, assets)

    def inputs(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Context]:
        """Create five text rows of up to 7 tokens, and three contexts of 6 tokens, one of them without a row."""
        draw = self.generator()

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=draw).to(dtype).requires_grad_()

        text = random(5, 7, self.text_width)
        text_mask = torch.arange(7)[None] < torch.tensor([7, 3, 5, 2, 7])[:, None]
        mask = torch.ones(5, 6, dtype=torch.bool)
        mask[0, 3:] = False
        mask[2, :4] = False
        context = Context(
            tokens=random(3, 6, self.context_width),
            rows=torch.tensor([2, 0, 0, 2, 2]),
            mask=mask,
            lead=random(5, 1, self.context_width),
        )
        return text, text_mask, context

    def pairs(self, images: int) -> tuple[Tensor, Tensor, Context]:
        """Create the inputs with several images per row, different ones in most rows, all of them visible."""
        text, text_mask, context = self.inputs()
        rows = (context.rows[:, None] + torch.arange(images)) % len(context.tokens)
        shape = (len(rows), images, self.context_width)
        lead = torch.randn(shape, generator=self.generator())
        mask = torch.ones(*rows.shape, context.tokens.shape[1], dtype=torch.bool)
        return text, text_mask, context._replace(rows=rows, mask=mask, lead=lead)

    def run(
        self, encoder: Any, dtype: torch.dtype = torch.float32, others: bool = False
    ) -> tuple[Tensor, ...]:
        text, text_mask, context = self.inputs(dtype)
        if others:
            text, context = text.flip(0) * 3, context._replace(tokens=context.tokens.flip(0) * 3)
        return (encoder(text, text_mask, context) * text_mask[..., None],)

    def outputs(self, encoder: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
        text, mask, tokens = inputs
        rows = torch.arange(tokens.shape[0])
        return (encoder(text, mask, Context(tokens, rows)) * mask[..., None],)

    def sized(self, rows: int, length: int) -> dict[Tensor, tuple[str, ...]]:
        text, mask, context = self.inputs()
        tokens = context.tokens.detach()[torch.arange(rows) % 3]
        free = ("batch", "length")
        cut = text.detach()[:rows, :length].clone()
        return {cut: free, mask[:rows, :length].clone(): free, tokens: ("batch",)}


class SourceSubject(Subject):
    """A data source."""

    component: SourceConfig


class ObjectiveSubject(Subject):
    """An objective, and features of six rows of four images."""

    component: ObjectiveConfig

    @property
    def layouts(self) -> tuple[RowLayout, ...]:
        """Layouts of the rows that it compares: those with a teacher are parallel texts."""
        return ("parallel",) if self.component.taught else ("images", "boxes", "parallel")

    def features(self, dtype: torch.dtype = torch.float32, layout: RowLayout | None = None) -> StreamFeatures:
        """Create features; rows 1 and 4 are of one group, `dtype` is that of the encoders' outputs.

        Args:
            layout: of the rows; None for the first of `layouts`.
        """
        draw, layout = self.generator(), layout or self.layouts[0]

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=draw).to(dtype).requires_grad_()

        def unit() -> Tensor:
            return torch.nn.functional.normalize(torch.randn(6, 8, generator=draw), dim=1).requires_grad_()

        mask = torch.arange(5)[None] < torch.tensor([5, 3, 2, 5, 4, 3])[:, None]
        group, temperature = torch.tensor([0, 1, 2, 3, 1, 5]), torch.tensor(0.07, requires_grad=True)
        texts = EncodedTexts(random(6, 5, 16), mask)
        if layout == "parallel":
            other = EncodedTexts(random(6, 5, 16), mask.flip(0))
            features = StreamFeatures(unit(), unit(), group, temperature, [texts, other])
            return features._replace(teacher=unit().detach()) if self.component.taught else features
        regions = torch.rand(6, 9, generator=draw) < 0.6 if layout == "boxes" else None
        return StreamFeatures(
            *(unit(), unit(), group, temperature, [texts], random(6, 24), regions),
            torch.tensor([0, 1, 2, 3, 1, 0]),
            VisionFeatures(random(4, 24), random(4, 9, 24), (3, 3)),
        )


class ReporterSubject(Subject):
    """A reporter."""

    component: ReporterConfig

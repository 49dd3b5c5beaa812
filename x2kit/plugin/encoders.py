"""The contracts of the three encoders: what a plugin's working objects take and give. Imports torch.

B rows, L text tokens, N patches, D width, M distinct contexts. Masks are bool and True is kept.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from x2kit.errors import HeadError, WeightsError
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.components import ComponentConfig
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.tokenizers import Tokenizer
from x2kit.plugin.toolkit.gather import gather_rows


class VisionFeatures(NamedTuple):
    """What a vision encoder gives: the vision sequence is the summary, then the patches.

    Attributes:
        summary: [B, D], one vector an image.
        patches: [B, N, D], row-major over the grid.
        grid: (rows, columns) with rows * columns == N.
    """

    summary: Tensor
    patches: Tensor
    grid: tuple[int, int]


class Encoder(nn.Module):
    """What the three kinds of encoder share: everything here may be left as it is."""

    built_from: ComponentConfig | None = None
    """The settings that built it, for errors in `forward`; set by x2kit."""
    from_scratch: bool = True
    """Whether all parameters are newly initialised; set it to False after loading pretrained weights."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call `forward`. Raises PluginError for an error in it, if x2kit built this encoder."""
        with component_faults(self.built_from):
            return super().__call__(*args, **kwargs)

    def save_assets(self, directory: Path) -> None:
        """Write what `build(assets=...)` needs beside the recipe; most encoders need nothing."""

    def no_decay(self) -> set[str]:
        """Names of own parameters without weight decay beyond biases and norms."""
        return set()

    def fresh(self) -> set[str]:
        """Return the newly initialised parameters, whose learning rate is multiplied by `lr_mult`.

        By default all of them if `from_scratch`, else none.
        """
        return {name for name, _ in self.named_parameters()} if self.from_scratch else set()

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        """Own tensor names to those of official checkpoints, their prefix taken off; see `NameTable`.

        Args:
            first_layer: number of the first layer, where the official model has text and fusion layers in one stack.
        Raises: WeightsError if there is no official checkpoint of this encoder.
        """
        raise WeightsError(f"{type(self).__name__}: official checkpoints have no such encoder")

    def official_buffers(self) -> dict[str, Tensor]:
        """What official checkpoints hold besides and the settings tell: position ids, index tables, masks."""
        return {}

    def fit(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Own tensors of another image size brought to this one's; what cannot be brought is left as it is."""
        return state


class VisionEncoder(Encoder):
    """Images to patches. Set `image_spec`, `width` and `grid` in the constructor."""

    image_spec: ImageSpec
    width: int
    grid: tuple[int, int]

    @abstractmethod
    def forward(self, images: Tensor) -> VisionFeatures:
        """Encode images.

        Args:
            images: [B, C, H, W] float, of the size and channels of `image_spec`, already normalised with its
                mean and standard deviation.
        """
        raise NotImplementedError

    def pool_regions(self, features: VisionFeatures, rows: Tensor, weights: Tensor) -> Tensor:
        """The summary of regions: the weighted mean of their patches (X²-VLM, section 3.1).

        An encoder with a way of its own overrides this: X-VLM's CLIP runs its last layers again under
        the mask, which is where the weights are above 0.

        Args:
            features: of the distinct images.
            rows: [B] int64, the image of each region.
            weights: [B, N], how much each patch counts: bool for patches that count alike, as in the paper, or
                float; not negative, and at least one above 0 in each row.
        Returns: [B, D].
        """
        weights = weights.to(features.patches.dtype)
        weights = weights / weights.sum(1, keepdim=True)
        return torch.bmm(weights[:, None], gather_rows(features.patches, rows))[:, 0]


class TextEncoder(Encoder):
    """Token ids to token vectors. Set the attributes in the constructor.

    Attributes:
        tokenizer: of its texts.
        width: D of the token vectors.
        max_length: most tokens of a text, special ones included.
    """

    tokenizer: Tokenizer
    width: int
    max_length: int

    @abstractmethod
    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode texts; position 0 summarises.

        Args:
            ids: [B, L] int64.
            mask: [B, L] bool; padding must change nothing at kept positions.
        Returns: [B, L, D].
        """
        raise NotImplementedError

    def read_partly(self, ids: Tensor, sees: Tensor, positions: Tensor) -> Tensor:
        """Encode texts of which each token sees some tokens only, as one that writes a caption does.

        Args:
            ids: [B, L] int64.
            sees: [B, L, L] bool, which tokens (last axis) each token sees.
            positions: [B, L] int64, the place in the text of each token, from 0; several tokens may share one.
        Returns: [B, L, D], the tokens themselves: position 0 summarises nothing that it does not see.
        Raises: HeadError if this encoder reads whole texts only.
        """
        raise HeadError(
            f"{type(self).__name__} reads whole texts only, so no captions can be written with it"
        )

    def token_embedding(self) -> nn.Embedding | None:
        """Return the word embedding [V, D] whose matrix the masked-language head shares with `model.heads.tie_mlm`.

        None, as by default, where there is none to share: the head then gets a matrix [tokenizer.vocab_size, D] of its
        own. V may exceed `tokenizer.vocab_size`.
        """
        return None


class Context(NamedTuple):
    """What text rows look at: M distinct contexts serve B text rows.

    Attributes:
        tokens: [M, N, Dc], for images the patches, for texts their tokens.
        rows: [B] int64, the context of each text row.
        mask: [B, N] bool, the tokens that each row may look at; None for all.
        lead: [B, 1, Dc], a summary token of the row's own in front of the tokens, always visible; or None.
        prepared: [M, ...] each, what `FusionEncoder.prepare` made of these tokens, so that several calls that look
            at the same contexts need not compute it again; empty if it was not asked. An encoder may ignore it.
    """

    tokens: Tensor
    rows: Tensor
    mask: Tensor | None = None
    lead: Tensor | None = None
    prepared: tuple[Tensor, ...] = ()

    def expand(self) -> tuple[Tensor, Tensor]:
        """Copy the contexts to their rows, the plain form for an encoder that does not share work between rows.

        Returns: tokens [B, N, Dc] and mask [B, N] bool, with `lead` in front where there is one (N + 1 tokens).
        """
        tokens = gather_rows(self.tokens, self.rows)
        mask = self.mask
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        if self.lead is not None:
            tokens = torch.cat([self.lead, tokens], 1)
            mask = torch.cat([mask.new_ones(len(mask), 1), mask], 1)
        return tokens, mask


class FusionEncoder(Encoder):
    """Text tokens that look at a context. Set `width` in the constructor."""

    width: int

    def prepare(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """What depends on context tokens [M, N, Dc] alone, as tensors [M, ...] for `Context.prepared`.

        Nothing by default. Keys and values of every layer, in an encoder with cross-attention.
        """
        return ()

    @abstractmethod
    def forward(
        self, text: Tensor, text_mask: Tensor, context: Context | None, summary_rows: int = 0
    ) -> Tensor:
        """Fuse.

        Args:
            text: [B, L, D], what the text encoder gave.
            text_mask: [B, L] bool; or [B, L, L] bool, which tokens (last axis) each token sees, from an encoder
                that reads texts partly (`TextEncoder.read_partly`).
            context: None is text alone: cross-attention is skipped, the rest of each layer is not.
            summary_rows: of the first so many rows only position 0 will be read; an encoder may leave their
                other positions at any finite value, which spares most of its last layer.
        Returns: [B, L, D].
        """
        raise NotImplementedError


class TextDecoder(Encoder):
    """A decoder of answers: causal layers that look at a fused question."""

    def begin_from(
        self, text: Mapping[str, Tensor], fusion: Mapping[str, Tensor], mlm_head: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Own tensors out of the other parts of a pretrained model (X²-VLM, section 4.3; ALBEF, arXiv:2107.07651).

        Args:
            text: the text encoder's tensors by official name; see `Encoder.official_names`.
            fusion: the fusion encoder's, layers numbered from 0; empty if it has no official names.
            mlm_head: the masked-language head's by the names of `TextEncoderConfig.pretrained_mlm_head`, or empty.
        Returns: tensors by own name; what is left out begins anew, as everything does by default.
        """
        return {}

    @abstractmethod
    def forward(self, ids: Tensor, mask: Tensor, context: Tensor, context_mask: Tensor) -> Tensor:
        """Logits of each next token.

        Args:
            ids: [B, L] int64.
            mask: [B, L] bool.
            context: [B, N, D], fused questions.
            context_mask: [B, N] bool.
        Returns: [B, L, V]; position i holds the logits of token i + 1.
        """
        raise NotImplementedError

"""Contracts of the encoders that plugins build, and their inputs and outputs. Imports torch.

B rows, L text tokens, N patches, D width, M distinct contexts. Masks are bool and True is kept.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
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
from x2kit.plugin.toolkit.stacks import linear_names

Past = tuple[Tensor, ...]
"""What an encoder keeps of the tokens that it has read from left to right: tensors [B, L, ...] for L tokens."""


def causal_mask(count: int, length: int, device: torch.device) -> Tensor:
    """Return the causal attention mask [1, count, length] bool of the last `count` of `length` tokens."""
    return torch.ones(1, count, length, dtype=torch.bool, device=device).tril(length - count)


class VisionFeatures(NamedTuple):
    """Output of a vision encoder; the vision sequence is the summary followed by the patches.

    Attributes:
        summary: [B, D], one vector per image.
        patches: [B, N, D], row-major over the grid.
        grid: (rows, columns) with rows * columns == N.
    """

    summary: Tensor
    patches: Tensor
    grid: tuple[int, int]


class Encoder(nn.Module):
    """Base of all encoders; every method here has a default."""

    built_from: ComponentConfig | None = None
    """The settings that built it, for errors in `forward`; set by x2kit."""
    from_scratch: bool = True
    """Whether all parameters are newly initialised; set it to False after loading pretrained weights."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call `forward`. Raises PluginError for an error in it, if x2kit built this encoder."""
        with component_faults(self.built_from):
            return super().__call__(*args, **kwargs)

    def save_assets(self, directory: Path) -> None:
        """Write the files that `build(assets=...)` needs besides the recipe; most encoders need none."""

    def no_decay(self) -> set[str]:
        """Return names of parameters without weight decay, besides biases and norms."""
        return set()

    def fresh(self) -> set[str]:
        """Return the newly initialised parameters, whose learning rate is multiplied by `lr_mult`.

        By default all of them if `from_scratch`, else none.
        """
        return {name for name, _ in self.named_parameters()} if self.from_scratch else set()

    def shard_units(self) -> Sequence[nn.Module] | None:
        """Return the modules that FSDP gathers one at a time, inner ones before those that hold them.

        In training, the parameters of each must be used only in calls of the module, whose number must not depend on
        the rows, as those of ranks differ. None, the default, stands for the layers: the members of lists of several
        modules of one class.
        """
        return None

    def hidden_matrices(self) -> set[str]:
        """Return the parameters [out, in] that map hidden states to hidden states, for optimisers of matrices (Muon).

        By default the weights of linear maps and of `nn.MultiheadAttention`. Embeddings and tables of positions are
        none; an encoder whose linear maps read or write something else, such as logits, leaves those out.
        """
        return {
            f"{name}.{own}" if name else own
            for name, module in self.named_modules()
            if isinstance(module, nn.Linear | nn.MultiheadAttention)
            for own, parameter in module.named_parameters(recurse=False)
            if parameter.ndim == 2
        }

    def adapted_layers(self) -> list[str]:
        """Return names of the `nn.Linear` that adapters (`training.trainable.*.lora`) change.

        By default all in its stacks of layers, or all that it has if those have none. `forward` must call each of
        them; override this to leave out those whose weight it reads in another way.
        """
        return linear_names(self)

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        """Map tensor names to those of official checkpoints, without their prefix; see `NameTable`.

        Args:
            first_layer: number of the first layer if the official model has text and fusion layers in one stack.
        Raises: WeightsError if there is no official checkpoint of this encoder.
        """
        raise WeightsError(f"{type(self).__name__}: there is no official checkpoint of this encoder")

    def official_buffers(self) -> dict[str, Tensor]:
        """Return buffers of official checkpoints that follow from the settings, such as position ids and masks."""
        return {}

    def fit(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert tensors of an encoder that `reads_weights_of` accepts, such as those of another image size.

        Other tensors are not changed.
        """
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
        """Pool regions: the weighted mean of their patches (X²-VLM, section 3.1).

        An encoder may override this: X-VLM's CLIP runs its last layers again with the region as mask, where weights
        are above 0.

        Args:
            features: features of the distinct images.
            rows: [B] int64, the image of each region.
            weights: [B, N], weight of each patch: bool for equal weights, as in the paper, or float; non-negative,
                with at least one above 0 in each row.
        Returns: [B, D].
        """
        weights = weights.to(features.patches.dtype)
        weights = weights / weights.sum(1, keepdim=True)
        return torch.bmm(weights[:, None], gather_rows(features.patches, rows))[:, 0]


class TextEncoder(Encoder):
    """Token ids to token vectors. Set the attributes in the constructor.

    Attributes:
        tokenizer: tokenizer of its texts.
        width: D of the token vectors.
        max_length: maximum number of tokens of a text, including special ones.
        packs: whether `read_partly` gives the result of `forward` for a text whose tokens see each other only. Several
            texts then share a row of the step, without padding; otherwise rows of similar length share a call.
    """

    tokenizer: Tokenizer
    width: int
    max_length: int
    packs: bool = False

    @abstractmethod
    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode texts; position 0 is the summary.

        Args:
            ids: [B, L] int64.
            mask: [B, L] bool; padding must not affect kept positions.
        Returns: [B, L, D].
        """
        raise NotImplementedError

    def read_partly(self, ids: Tensor, sees: Tensor, positions: Tensor) -> Tensor:
        """Encode texts under an attention mask per token, as for causal generation of captions.

        Args:
            ids: [B, L] int64.
            sees: [B, L, L] bool, the tokens (last axis) that each token attends to.
            positions: [B, L] int64, position of each token in the text, from 0; several tokens may share one.
        Returns: [B, L, D], the hidden states; position 0 is not replaced by a summary.
        Raises: HeadError if the encoder does not support such masks.
        """
        raise HeadError(f"{type(self).__name__} reads whole texts only, so it cannot generate captions")

    def read_next(self, ids: Tensor, past: Past = ()) -> tuple[Tensor, Past]:
        """Encode the next tokens of texts read from left to right; each token attends to itself and those before.

        The default reads all tokens again. An encoder that keeps keys and values overrides it, for generation in linear
        time.

        Args:
            ids: [B, K] int64, the tokens after those of `past`.
            past: as an earlier call returned it, with rows and last tokens selected by the caller; empty at the start.
        Returns: [B, K, D], and `past` for the next call.
        Raises: HeadError as `read_partly`.
        """
        read = torch.cat([*past, ids], 1)
        length = read.shape[1]
        positions = torch.arange(length, device=ids.device).expand(len(ids), -1)
        sees = causal_mask(length, length, ids.device).expand(len(ids), -1, -1)
        return self.read_partly(read, sees, positions)[:, -ids.shape[1] :], (read,)

    def token_embedding(self) -> nn.Embedding | None:
        """Return the word embedding [V, D] that the masked-language head shares with `model.heads.tie_mlm`.

        None, the default, if there is none to share: the head then has its own matrix [tokenizer.vocab_size, D]. V may
        exceed `tokenizer.vocab_size`.
        """
        return None


class Context(NamedTuple):
    """Contexts that text rows attend to: M distinct contexts are shared by B text rows.

    A row has one context, or K images, where K is `FusionEncoderConfig.images`: then `rows` and `mask` have one more
    axis, and `lead` has K summary tokens. A row with one image is fused like a row with K equal images.

    Attributes:
        tokens: [M, N, Dc], patches of images or tokens of texts.
        rows: [B] or [B, K] int64, the context of each text row.
        mask: [B, N] or [B, K, N] bool, the tokens that each row attends to; None for all.
        lead: [B, 1, Dc] or [B, K, Dc], a summary token per row before the tokens, always visible; or None.
        prepared: [M, ...] each, the output of `FusionEncoder.prepare` for these tokens, shared by calls with the same
            contexts; empty if not computed. An encoder may ignore it.
    """

    tokens: Tensor
    rows: Tensor
    mask: Tensor | None = None
    lead: Tensor | None = None
    prepared: tuple[Tensor, ...] = ()

    def select(self, place: int) -> Context:
        """Return the contexts of one image per row: image `place` of its K images, or its only one."""
        if self.rows.ndim == 1:
            return self
        mask = None if self.mask is None else self.mask[:, place]
        lead = None if self.lead is None else self.lead[:, place : place + 1]
        return self._replace(rows=self.rows[:, place], mask=mask, lead=lead)

    def expand(self) -> tuple[Tensor, Tensor]:
        """Copy the contexts to their rows, one each, for an encoder that does not share work between rows.

        Returns: tokens [B, N, Dc] and mask [B, N] bool, with `lead` first if there is one (N + 1 tokens).
        """
        tokens = gather_rows(self.tokens, self.rows)
        mask = self.mask
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        if self.lead is not None:
            tokens = torch.cat([self.lead, tokens], 1)
            mask = torch.cat([mask.new_ones(mask.shape[0], 1), mask], 1)
        return tokens, mask


class FusionEncoder(Encoder):
    """Fuses text tokens with a context. Set `width` in the constructor.

    Attributes:
        width: D of the fused texts.
        attention_layers: layers whose cross-attention `attend` returns; 0, the default, if it returns none.
        packs: whether `forward` takes a `PackedContext`. Several texts then share a row of the step, and texts of one
            image its keys and values; otherwise rows of similar length share a call.
    """

    width: int
    attention_layers: int = 0
    packs: bool = False

    def shard_units(self) -> Sequence[nn.Module] | None:
        """Return no modules: `prepare` may use the parameters of layers beside their calls."""
        return ()

    def prepare(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Compute what depends on context tokens [M, N, Dc] only, as tensors [M, ...] for `Context.prepared`.

        Nothing by default; keys and values of every layer in an encoder with cross-attention.
        """
        return ()

    def fuse_next(self, text: Tensor, context: Context, past: Past = ()) -> tuple[Tensor, Past]:
        """Fuse the next tokens of texts read from left to right; see `TextEncoder.read_next`.

        The default fuses all tokens again. An encoder that keeps keys and values overrides it; beams of an image then
        share the keys of its context.

        Args:
            text: [B, K, D], from `TextEncoder.read_next`.
            context: of whole images, without `mask` and `lead`; `rows` ascend, equally many for each of M contexts.
            past: as an earlier call returned it, with rows and last tokens selected by the caller; empty at the start.
        Returns: [B, K, D], and `past` for the next call.
        """
        read = torch.cat([*past, text], 1)
        length = read.shape[1]
        sees = causal_mask(length, length, text.device).expand(len(text), -1, -1)
        fused: Tensor = self(read, sees, context)
        return fused[:, -text.shape[1] :], (read,)

    @abstractmethod
    def forward(
        self, text: Tensor, text_mask: Tensor, context: Context | None, summary_rows: int = 0
    ) -> Tensor:
        """Fuse texts with their contexts.

        Args:
            text: [B, L, D], output of the text encoder.
            text_mask: [B, L] bool; or [B, L, L] bool, the tokens (last axis) that each token attends to, from
                `TextEncoder.read_partly`.
            context: a `Context`; None for text alone: only cross-attention is skipped. An encoder that declares `packs`
                also takes a `PackedContext`, with `text_mask` [B, L, L]. If it has `read`, the result is that of the
                read tokens, [T, D].
            summary_rows: number of first rows of which only position 0 is used; their other positions may have any
                finite value, which saves most of the last layer.
        Returns: [B, L, D].
        """
        raise NotImplementedError

    def attend(self, text: Tensor, text_mask: Tensor, context: Context, layer: int) -> tuple[Tensor, Tensor]:
        """Fuse as `forward`, and return the cross-attention probabilities of one layer with the result.

        The result is computed from these very probabilities, so that its gradient with respect to them exists
        (weakly supervised grounding, X-VLM). An encoder that overrides this sets `attention_layers`.

        Args:
            text, text_mask, context: as in `forward`.
            layer: number from 0, below `attention_layers`.
        Returns: fused texts [B, L, D] and probabilities [B, H, L, N] over the context tokens, after the lead if
            there is one (N + 1): H heads, each row sums to 1, masked tokens have 0.
        Raises: HeadError if the encoder has no such probabilities.
        """
        raise HeadError(
            f"{type(self).__name__} gives no attention probabilities (attention_layers is 0); set "
            "model.fusion.class_path to an encoder that does (x2kit plugins list --kind fusion)"
        )


class TextDecoder(Encoder):
    """Answer decoder: causal layers with cross-attention to a fused question."""

    def begin_from(
        self, text: Mapping[str, Tensor], fusion: Mapping[str, Tensor], mlm_head: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Initialise from other parts of a pretrained model (X²-VLM, section 4.3; ALBEF, arXiv:2107.07651).

        Args:
            text: the text encoder's tensors by official name; see `Encoder.official_names`.
            fusion: the fusion encoder's, layers numbered from 0; empty if it has no official names.
            mlm_head: the masked-language head's by the names of `TextEncoderConfig.pretrained_mlm_head`, or empty.
        Returns: tensors by name; other tensors keep their initial values. By default there are none.
        """
        return {}

    @abstractmethod
    def forward(self, ids: Tensor, mask: Tensor, context: Tensor, context_mask: Tensor) -> Tensor:
        """Compute the logits of each next token.

        Args:
            ids: [B, L] int64.
            mask: [B, L] bool.
            context: [B, N, D], fused questions.
            context_mask: [B, N] bool.
        Returns: [B, L, V]; position i holds the logits of token i + 1.
        """
        raise NotImplementedError

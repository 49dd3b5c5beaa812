"""The X2VLM model: three encoders and the paper's heads (X²-VLM, arXiv:2211.12402). Imports torch.

B rows, L text tokens, N patches, D width, E common width, M distinct images. Masks are bool, True is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from x2kit.data.transforms.text import clean
from x2kit.data.transforms.view import read_image, unit_floats
from x2kit.errors import HeadError, ShapeError
from x2kit.model.config import HeadsConfig
from x2kit.model.heads import HiddenHead, MaskedLanguageHead
from x2kit.model.inputs import ImageInput, eight_bits, image_list, pad_ids, text_list
from x2kit.model.lora import Lora
from x2kit.model.regions import patch_mask, patch_overlap
from x2kit.plugin import (
    Context,
    FusionEncoder,
    ImageSpec,
    TextDecoder,
    TextEncoder,
    Tokenizer,
    VisionEncoder,
    VisionFeatures,
)
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.toolkit.gather import gather_rows
from x2kit.plugin.toolkit.packed import PackedContext
from x2kit.plugin.toolkit.positions import sinusoid_2d

TEMPERATURE_RANGE = (0.001, 0.5)
HEAD_OF = {
    "vision_proj": "contrastive head (itc)",
    "text_proj": "contrastive head (itc)",
    "temperature": "contrastive head (itc)",
    "text_temperature": "contrastive head (itc)",
    "itm_head": "matching head (itm)",
    "bbox_head": "box head (bbox)",
    "mlm_head": "masked-language head (mlm)",
    "frame_positions": "frame positions (frames)",
    "answer_head": "answer head (answers)",
    "decoder": "decoder (decoder_layers)",
    "extra_heads": "head of a plugin (extra)",
}
"""Optional parts of a model, with their names in `model.heads`."""


class X2VLM(nn.Module):
    """Three encoders and the paper's heads.

    Args:
        vision, text, fusion: the encoders.
        heads: settings of the heads. Access to a head that was not built raises HeadError.
        decoder: of answers; None for a model without one.
    Raises: ShapeError for a tied masked-language head if text and fusion encoder differ in width.
    """

    def __init__(
        self,
        vision: VisionEncoder,
        text: TextEncoder,
        fusion: FusionEncoder,
        heads: HeadsConfig | None = None,
        decoder: TextDecoder | None = None,
    ) -> None:
        super().__init__()
        heads = heads or HeadsConfig()
        self.vision = vision
        self.text = text
        self.fusion = fusion
        self.kept: frozenset[str] = frozenset()
        """Names of tensors loaded from another model; they count as pretrained even if listed in `Encoder.fresh`."""
        self.lora: dict[str, Lora] = {}
        """Adapters by part, while the model has any."""
        self.frozen: frozenset[str] = frozenset()
        """Modules that stay in evaluation mode during training; an encoder among them runs without a graph."""
        self.region_pooling = heads.region_pooling
        if "itc" in heads.built:
            self.vision_proj = nn.Linear(vision.width, heads.embed_dim)
            self.text_proj = nn.Linear(text.width, heads.embed_dim)
            self.temperature = nn.Parameter(torch.tensor(heads.temperature))
            self.text_temperature = (
                nn.Parameter(torch.tensor(heads.temperature))
                if heads.own_text_temperature
                else self.temperature
            )
        if "itm" in heads.built:
            self.itm_head = HiddenHead(fusion.width, 2)
        if "bbox" in heads.built:
            self.bbox_head = HiddenHead(fusion.width, 4)
        if "mlm" in heads.built:
            self.mlm_head = _masked_language_head(text, fusion, heads)
        if heads.frames is not None:
            self.frame_positions = nn.Parameter(torch.empty(1, heads.frames, 1, vision.width))
            nn.init.trunc_normal_(self.frame_positions, std=0.02)
        if heads.answers is not None:
            self.answer_head = HiddenHead(fusion.width * heads.answer_images, heads.answers)
        if decoder is not None:
            self.decoder = decoder
        if heads.extra:
            self.extra_heads = nn.ModuleDict()
            for name, head in heads.extra.items():
                with component_faults(head):
                    self.extra_heads[name] = head.build(fusion.width)
        self.head_lr_mult = {f"extra_heads.{name}.": head.lr_mult for name, head in heads.extra.items()}
        """Factors of the learning rate, by the start of parameter names."""
        spec = vision.image_spec
        self.register_buffer("_mean", torch.tensor(spec.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(spec.std).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("_positions", _positions(vision, heads.context_positions), persistent=False)
        self._positions: Tensor | None
        self._mean: Tensor
        self._std: Tensor

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            if name not in HEAD_OF:
                raise
            raise HeadError(
                f"this model has no {HEAD_OF[name]}; it was built without one (model.heads), as fine-tuned models are"
            ) from error

    def train(self, mode: bool = True) -> Self:
        """Set training mode, except for the `frozen` modules."""
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        return self

    def _graph(self, encoder: str) -> AbstractContextManager[None]:
        return torch.no_grad() if encoder in self.frozen else nullcontext()

    @property
    def image_spec(self) -> ImageSpec:
        """Size, channels and normalisation of images."""
        return self.vision.image_spec

    @property
    def tokenizer(self) -> Tokenizer:
        """The text encoder's tokenizer."""
        return self.text.tokenizer

    @property
    def max_length(self) -> int:
        """Maximum number of tokens of a text."""
        return self.text.max_length

    @property
    def frames(self) -> int | None:
        """Maximum number of frames of a video; None for a model without videos."""
        return self.frame_positions.shape[1] if "frame_positions" in self._parameters else None

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self._mean.device

    # Tensors in, tensors out: for training and evaluation.

    def encode_images(self, images: Tensor) -> VisionFeatures:
        """Normalise and encode images [B, C, H, W], uint8 or float in [0, 1]."""
        with self._graph("vision"):
            features: VisionFeatures = self.vision((unit_floats(images) - self._mean) / self._std)
        return features

    def encode_video(self, frames: Tensor) -> VisionFeatures:
        """Encode videos [B, F, C, H, W]: add each frame's position and average over frames (X²-VLM, section 3.3).

        Videos with fewer frames than positions use the first positions.

        Raises: HeadError for a model without frame positions; ShapeError for more frames than positions.
        """
        return self.pool_frames(self.encode_images(frames.flatten(0, 1)), frames.shape[1])

    def pool_frames(self, features: VisionFeatures, count: int) -> VisionFeatures:
        """Pool features of B * `count` frames, ordered by video, to those of B videos; see `encode_video`."""
        positions = self.frame_positions
        if count > positions.shape[1]:
            raise ShapeError(f"found {count} frames, model.heads.frames allows {positions.shape[1]}")
        videos = len(features.summary) // count
        summary = features.summary.reshape(videos, count, -1) + positions[:, :count, 0]
        patches = features.patches.reshape(videos, count, *features.patches.shape[1:]) + positions[:, :count]
        return VisionFeatures(summary.mean(1), patches.mean(1), features.grid)

    def encode_regions(
        self, features: VisionFeatures, rows: Tensor, bbox: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pool the summary of image regions and mark their patches.

        Args:
            features: of the distinct images.
            rows: [B] int64, the image of each region.
            bbox: [B, 4] cxcywh in [0, 1].
            mask: [B, N] bool, the patches of each region if already computed.
        Returns: summary [B, D] and mask [B, N] bool.
        """
        if mask is None:
            mask = patch_mask(bbox, features.grid)
        weights = patch_overlap(bbox, features.grid) if self.region_pooling == "overlap" else mask
        with component_faults(self.vision.built_from):
            return self.vision.pool_regions(features, rows, weights), mask

    def encode_texts(
        self,
        ids: Tensor,
        mask: Tensor,
        positions: Tensor | None = None,
        lengths: Sequence[int] | None = None,
    ) -> Tensor:
        """Encode texts to [B, L, D]; the arguments are the fields of `x2kit.plugin.Texts`.

        Args:
            ids: [B, L] int64.
            mask: [B, L] bool; with positions [B, L, L] bool, the tokens (last axis) that each token attends to.
            positions: [B, L] int64; None for texts that are read whole.
            lengths: not used; all rows are read in one call.
        Raises: HeadError for positions, if the text encoder does not implement `read_partly`.
        """
        with self._graph("text"):
            if positions is None:
                tokens: Tensor = self.text(ids, mask)
                return tokens
            with component_faults(self.text.built_from):
                return self.text.read_partly(ids, mask, positions)

    def project_images(self, summary: Tensor) -> Tensor:
        """Project summaries [B, D] of images or regions to unit vectors [B, E] of the common space."""
        return F.normalize(self.vision_proj(summary).float(), dim=-1)

    def project_texts(self, tokens: Tensor) -> Tensor:
        """Project texts [B, L, D], read at position 0, to unit vectors [B, E] of the common space."""
        return F.normalize(self.text_proj(tokens[:, 0]).float(), dim=-1)

    def fuse(
        self,
        text: Tensor,
        text_mask: Tensor,
        context: Context | PackedContext | None,
        summary_rows: int = 0,
    ) -> Tensor:
        """Fuse texts with their context; see `FusionEncoder.forward`. Returns [B, L, D].

        A context with a lead is an image: its patches get the fixed positions of `heads.context_positions`.
        """
        seen = None if context is None else self._placed(context)
        fused: Tensor = self.fusion(text, text_mask, seen, summary_rows)
        return fused

    def attend(self, text: Tensor, text_mask: Tensor, context: Context, layer: int) -> tuple[Tensor, Tensor]:
        """Fuse as `fuse`, and return the cross-attention of one layer with the result; see `FusionEncoder.attend`.

        Raises: HeadError for a fusion encoder without attention probabilities, or without this layer.
        """
        layers = self.fusion.attention_layers
        if layers and not 0 <= layer < layers:
            raise HeadError(
                f"layer {layer}: {type(self.fusion).__name__} (model.fusion) has cross-attention in the layers 0 to "
                f"{layers - 1}"
            )
        with component_faults(self.fusion.built_from):
            return self.fusion.attend(text, text_mask, self._placed(context), layer)

    def prepare_images(self, features: VisionFeatures) -> Context:
        """Build a context of M whole images for many calls of `fuse`, with keys and values computed once.

        Tokens are the summary followed by the patches. `rows` is empty; each call sets it.
        """
        tokens = torch.cat([features.summary[:, None], self._add_positions(features.patches)], 1)
        rows = torch.zeros(0, dtype=torch.int64, device=tokens.device)
        with component_faults(self.fusion.built_from):
            return Context(tokens, rows, prepared=self.fusion.prepare(tokens))

    def prepare_patches(self, features: VisionFeatures) -> Context:
        """Build a context like `prepare_images`, of patches only, for calls that set `lead` for each row."""
        tokens = self._add_positions(features.patches)
        with component_faults(self.fusion.built_from):
            prepared = self.fusion.prepare(tokens)
        rows = torch.zeros(0, dtype=torch.int64, device=tokens.device)
        # Unprepared patches get their positions in `fuse`.
        return Context(tokens if prepared else features.patches, rows, prepared=prepared)

    def _placed(self, context: Any) -> Any:
        """Add the fixed positions to the patches of an image, unless they are in its prepared tokens."""
        if context.lead is None or context.prepared:
            return context
        return context._replace(tokens=self._add_positions(context.tokens))

    def _add_positions(self, patches: Tensor) -> Tensor:
        return patches if self._positions is None else patches + self._positions

    def itm_logits(self, fused: Tensor) -> Tensor:
        """Compute matching logits [B, 2] of fused texts [B, L, D], read at position 0; class 1 is "matched"."""
        logits: Tensor = self.itm_head(fused[:, 0])
        return logits.float()

    def predict_bbox(self, fused: Tensor) -> Tensor:
        """Predict boxes [B, 4] cxcywh in [0, 1] from fused texts [B, L, D], read at position 0."""
        return torch.sigmoid(self.bbox_head(fused[:, 0]).float())

    def answer_logits(self, fused: Sequence[Tensor]) -> Tensor:
        """Compute answer logits [B, A] from the fused texts [B, L, D] of each image, read at position 0."""
        logits: Tensor = self.answer_head(torch.cat([states[:, 0] for states in fused], -1))
        return logits.float()

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """Clamp the temperatures to [0.001, 0.5] before each step (official code)."""
        if hasattr(self, "temperature"):
            self.temperature.clamp_(*TEMPERATURE_RANGE)
            self.text_temperature.clamp_(*TEMPERATURE_RANGE)

    # Images and texts in, tensors out. A single image or text needs no list.

    def read(self, images: ImageInput | Iterable[ImageInput]) -> Tensor:
        """Read and resize images for the encoder: [B, C, H, W] float in [0, 1].

        Args:
            images: paths, URLs, bytes of encoded files, PIL images, arrays or tensors; see
                `x2kit.model.inputs.image_list`.
        Raises: DataError for an unreadable image, or one that does not fit the encoder.
        """
        spec = self.image_spec
        found = [
            read_image(eight_bits(image, spec.value_range is None), spec) for image in image_list(images)
        ]
        if not found:
            return torch.empty(0, spec.channels, spec.size, spec.size, device=self.device)
        return torch.stack(found).to(self.device)

    def tokenize(self, texts: str | Iterable[str]) -> tuple[Tensor, Tensor]:
        """Clean texts as in training and tokenize them to ids [B, L] int64 and mask [B, L] bool."""
        encoded = self.tokenizer.encode([clean(text) for text in text_list(texts)], self.max_length)
        return pad_ids(encoded, self.tokenizer.special.pad, self.device)

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, *, plugins: Sequence[str | Path] = (), trust_plugins: bool = False
    ) -> X2VLM:
        """Load the model of a weights or run directory; see `x2kit.model.load`."""
        from x2kit.model import load

        return load(directory, plugins=plugins, trust_plugins=trust_plugins)


def _masked_language_head(text: TextEncoder, fusion: FusionEncoder, heads: HeadsConfig) -> MaskedLanguageHead:
    embedding = text.token_embedding() if heads.tie_mlm else None
    if embedding is not None and embedding.embedding_dim != fusion.width:
        raise ShapeError(
            f"model.heads.tie_mlm: the word embedding has width {embedding.embedding_dim}, the fusion encoder "
            f"{fusion.width}; set tie_mlm to false"
        )
    vocab_size = text.tokenizer.vocab_size if embedding is None else embedding.num_embeddings
    frequencies = text.tokenizer.log_frequencies()
    if frequencies is not None and len(frequencies) != vocab_size:
        frequencies = None
    return MaskedLanguageHead(fusion.width, vocab_size, heads.mlm_layer_norm_eps, embedding, frequencies)


def _positions(vision: VisionEncoder, scale: float) -> Tensor | None:
    if not scale:
        return None
    if vision.width % 4:
        raise ShapeError(
            f"model.heads.context_positions: the vision width must be a multiple of 4, found {vision.width}"
        )
    return sinusoid_2d(vision.grid, vision.width) * scale


def image_context(features: VisionFeatures, rows: Tensor) -> Context:
    """Build a context of whole images for text rows: the summary as lead, all patches visible.

    Args:
        features: of M distinct images.
        rows: [B] int64, the image of each text row; or [B, K], its K images.
    """
    lead = gather_rows(features.summary, rows.flatten()).view(len(rows), -1, features.summary.shape[1])
    return Context(features.patches, rows, None, lead)

"""X2VLM: images, regions and texts of one model (X²-VLM, arXiv:2211.12402). Imports torch.

B rows, L text tokens, N patches, D width, E common width, M distinct images. Masks are bool and True is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from x2kit.data.transforms.text import clean
from x2kit.data.transforms.view import read_image
from x2kit.errors import HeadError, ShapeError
from x2kit.model.config import HeadsConfig
from x2kit.model.heads import HiddenHead, MaskedLanguageHead
from x2kit.model.inputs import ImageInput, eight_bits, image_list, text_list
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
}
"""Parts that a model may lack, and how `model.heads` calls them."""


class X2VLM(nn.Module):
    """Three encoders and the paper's heads.

    Args:
        vision, text, fusion: the encoders, built.
        heads: settings of the heads. Asking for one that was not built raises HeadError.
        decoder: of answers, for models that have one.
    Raises: ShapeError if a tied masked-language head is asked of encoders of other widths.
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
        """Names of tensors that came from another model; they are not fresh, whatever their encoder says."""
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
                f"this model has no {HEAD_OF[name]}; it was built without (model.heads), as fine-tuned models are"
            ) from error

    @property
    def image_spec(self) -> ImageSpec:
        """What images must be."""
        return self.vision.image_spec

    @property
    def tokenizer(self) -> Tokenizer:
        """The text encoder's tokenizer."""
        return self.text.tokenizer

    @property
    def max_length(self) -> int:
        """Most tokens of a text."""
        return self.text.max_length

    @property
    def frames(self) -> int | None:
        """Most frames of a video; None if the model sees no videos."""
        return self.frame_positions.shape[1] if "frame_positions" in self._parameters else None

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self._mean.device

    # Tensors in, tensors out: what training and evaluation use.

    def encode_images(self, images: Tensor) -> VisionFeatures:
        """Encode images [B, C, H, W] float in [0, 1]; they are normalised here, as the encoder declared."""
        features: VisionFeatures = self.vision((images - self._mean) / self._std)
        return features

    def encode_video(self, frames: Tensor) -> VisionFeatures:
        """Encode videos [B, F, C, H, W] as one image each: the mean over the frames, each with its position.

        Of fewer frames than the model has positions for, the first positions are taken (X²-VLM, section 3.3).

        Raises: HeadError if the model has no frame positions, ShapeError for more frames than it has.
        """
        return self.pool_frames(self.encode_images(frames.flatten(0, 1)), frames.shape[1])

    def pool_frames(self, features: VisionFeatures, count: int) -> VisionFeatures:
        """The features of B videos from those of their B * `count` frames, video by video; see `encode_video`."""
        positions = self.frame_positions
        if count > positions.shape[1]:
            raise ShapeError(f"{count} frames, but model.heads.frames is {positions.shape[1]}")
        videos = len(features.summary) // count
        summary = features.summary.reshape(videos, count, -1) + positions[:, :count, 0]
        patches = features.patches.reshape(videos, count, *features.patches.shape[1:]) + positions[:, :count]
        return VisionFeatures(summary.mean(1), patches.mean(1), features.grid)

    def encode_regions(
        self, features: VisionFeatures, rows: Tensor, bbox: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The summary of parts of images, and their patches.

        Args:
            features: of the distinct images.
            rows: [B] int64, the image of each region.
            bbox: [B, 4] cxcywh in [0, 1].
            mask: [B, N] bool, the patches of each region where they are known already.
        Returns: summary [B, D] and mask [B, N] bool.
        """
        if mask is None:
            mask = patch_mask(bbox, features.grid)
        weights = patch_overlap(bbox, features.grid) if self.region_pooling == "overlap" else mask
        with component_faults(self.vision.built_from):
            return self.vision.pool_regions(features, rows, weights), mask

    def encode_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode texts: ids [B, L] int64 and mask [B, L] bool give [B, L, D]."""
        tokens: Tensor = self.text(ids, mask)
        return tokens

    def project_images(self, summary: Tensor) -> Tensor:
        """Summaries [B, D] of images or regions to unit vectors [B, E] of the common space."""
        return F.normalize(self.vision_proj(summary).float(), dim=-1)

    def project_texts(self, tokens: Tensor) -> Tensor:
        """Texts [B, L, D], read at position 0, to unit vectors [B, E] of the common space."""
        return F.normalize(self.text_proj(tokens[:, 0]).float(), dim=-1)

    def fuse(self, text: Tensor, text_mask: Tensor, context: Context | None, summary_rows: int = 0) -> Tensor:
        """Texts that look at images; see `FusionEncoder.forward`. Returns [B, L, D].

        A context with a lead is an image: its patches get the fixed positions, if the heads ask for them.
        """
        if context is not None and context.lead is not None and not context.prepared:
            context = context._replace(tokens=self._placed(context.tokens))
        fused: Tensor = self.fusion(text, text_mask, context, summary_rows)
        return fused

    def prepare_images(self, features: VisionFeatures) -> Context:
        """M whole images as a context of many calls of `fuse`, with what they all need computed once.

        Summaries stand in front of the patches; `rows` is empty, each call replaces it by its own.
        """
        tokens = torch.cat([features.summary[:, None], self._placed(features.patches)], 1)
        rows = torch.zeros(0, dtype=torch.int64, device=tokens.device)
        with component_faults(self.fusion.built_from):
            return Context(tokens, rows, prepared=self.fusion.prepare(tokens))

    def prepare_patches(self, features: VisionFeatures) -> Context:
        """As `prepare_images`, for calls whose rows bring leads of their own: only the patches are prepared."""
        tokens = self._placed(features.patches)
        with component_faults(self.fusion.built_from):
            prepared = self.fusion.prepare(tokens)
        rows = torch.zeros(0, dtype=torch.int64, device=tokens.device)
        # What is not prepared gets its positions in `fuse`.
        return Context(tokens if prepared else features.patches, rows, prepared=prepared)

    def _placed(self, patches: Tensor) -> Tensor:
        return patches if self._positions is None else patches + self._positions

    def itm_logits(self, fused: Tensor) -> Tensor:
        """Matching logits [B, 2] of fused texts [B, L, D], read at position 0; class 1 is "matched"."""
        logits: Tensor = self.itm_head(fused[:, 0])
        return logits.float()

    def predict_bbox(self, fused: Tensor) -> Tensor:
        """Boxes [B, 4] cxcywh in [0, 1] of fused texts [B, L, D], read at position 0."""
        return torch.sigmoid(self.bbox_head(fused[:, 0]).float())

    def answer_logits(self, fused: Sequence[Tensor]) -> Tensor:
        """Logits [B, A] of the answers, from the fused texts [B, L, D] of each image, read at position 0."""
        logits: Tensor = self.answer_head(torch.cat([states[:, 0] for states in fused], -1))
        return logits.float()

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """Keep the temperatures in [0.001, 0.5] (official code); called before every step."""
        if hasattr(self, "temperature"):
            self.temperature.clamp_(*TEMPERATURE_RANGE)
            self.text_temperature.clamp_(*TEMPERATURE_RANGE)

    # Images and texts in, numbers out: what people use. One image or text may be given without a list around it.

    def read(self, all_images: ImageInput | Iterable[ImageInput]) -> Tensor:
        """Read images as the encoder takes them: [B, C, H, W] float in [0, 1].

        Args:
            images: paths, URLs, bytes of encoded files, PIL images, arrays or tensors; see
                `x2kit.model.inputs.image_list`. Each is brought to the encoder's size.
        Raises: DataError for an image that cannot be read or does not fit the encoder.
        """
        spec = self.image_spec
        found = [
            read_image(eight_bits(image, spec.value_range is None), spec) for image in image_list(all_images)
        ]
        if not found:
            return torch.empty(0, spec.channels, spec.size, spec.size, device=self.device)
        return torch.stack(found).to(self.device)

    def tokenize(self, texts: str | Iterable[str]) -> tuple[Tensor, Tensor]:
        """Turn texts, cleaned as in training, into ids [B, L] int64 and mask [B, L] bool."""
        encoded = self.tokenizer.encode([clean(text) for text in text_list(texts)], self.max_length)
        length = max((len(ids) for ids in encoded), default=0)
        ids = torch.full((len(encoded), length), self.tokenizer.special.pad)
        for row, tokens in zip(ids, encoded, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)
        lengths = torch.tensor([len(tokens) for tokens in encoded], dtype=torch.int64)
        mask = torch.arange(length) < lengths[:, None]
        return ids.to(self.device), mask.to(self.device)

    @torch.inference_mode()
    def similarity(self, all_images: ImageInput | Iterable[ImageInput], texts: str | Iterable[str]) -> Tensor:
        """Compute the cosine similarity [images, texts] of every image with every text.

        Args:
            images: one image or several, as `read` takes them.
            texts: one text or several. Without images or without texts the result is empty.
        """
        all_images, texts = image_list(all_images), text_list(texts)
        if not (all_images and texts):
            return torch.empty(len(all_images), len(texts), device=self.device)
        images = self.project_images(self.encode_images(self.read(all_images)).summary)
        return images @ self.project_texts(self.encode_texts(*self.tokenize(texts))).T

    @torch.inference_mode()
    def match(self, all_images: ImageInput | Iterable[ImageInput], texts: str | Iterable[str]) -> Tensor:
        """Compute the probability [B] that text i describes image i. Raises ShapeError unless they go in pairs."""
        all_images, texts = _pairs(all_images, texts)
        if not all_images:
            return torch.empty(0, device=self.device)
        return self.itm_logits(self._fuse_pairs(all_images, texts)).softmax(1)[:, 1]

    @torch.inference_mode()
    def locate(self, all_images: ImageInput | Iterable[ImageInput], texts: str | Iterable[str]) -> Tensor:
        """Find text i in image i: [B, 4], (centre x, centre y, width, height) as shares of the image's sides.

        `x2kit.model.boxes_in_pixels` converts them to corners in pixels.

        Raises: ShapeError unless images and texts go in pairs.
        """
        all_images, texts = _pairs(all_images, texts)
        if not all_images:
            return torch.empty(0, 4, device=self.device)
        return self.predict_bbox(self._fuse_pairs(all_images, texts))

    def _fuse_pairs(self, all_images: Sequence[ImageInput], texts: Sequence[str]) -> Tensor:
        features = self.encode_images(self.read(all_images))
        ids, mask = self.tokenize(texts)
        context = image_context(features, torch.arange(len(all_images), device=self.device))
        return self.fuse(self.encode_texts(ids, mask), mask, context, summary_rows=len(texts))

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, *, plugins: Sequence[str | Path] = (), trust_plugins: bool = False
    ) -> X2VLM:
        """The model of a weights directory or run directory; see `x2kit.load`."""
        from x2kit.model.saving import load

        return load(directory, plugins=plugins, trust_plugins=trust_plugins)


def _pairs(
    all_images: ImageInput | Iterable[ImageInput], texts: str | Iterable[str]
) -> tuple[list[ImageInput], list[str]]:
    images, sentences = image_list(all_images), text_list(texts)
    if len(images) != len(sentences):
        raise ShapeError(f"images and sentences go in pairs, found {len(images)} and {len(sentences)}")
    return images, sentences


def _masked_language_head(text: TextEncoder, fusion: FusionEncoder, heads: HeadsConfig) -> MaskedLanguageHead:
    embedding = text.token_embedding() if heads.tie_mlm else None
    if embedding is not None and embedding.embedding_dim != fusion.width:
        raise ShapeError(
            f"model.heads.tie_mlm: the word embedding is {embedding.embedding_dim} wide and the fusion encoder "
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
            f"model.heads.context_positions: needs a vision width in fours, found {vision.width}"
        )
    return sinusoid_2d(vision.grid, vision.width) * scale


def image_context(features: VisionFeatures, rows: Tensor) -> Context:
    """Whole images as context of text rows: summary in front, all patches visible.

    Args:
        features: of M distinct images.
        rows: [B] int64, the image of each text row.
    """
    return Context(features.patches, rows, None, gather_rows(features.summary, rows)[:, None])

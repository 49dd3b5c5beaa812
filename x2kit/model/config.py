"""Settings of the model: three encoders and the heads. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from x2kit.plugin.components import FusionEncoderConfig, NameOrPath, TextEncoderConfig, VisionEncoderConfig

HeadName = Literal["itc", "itm", "mlm", "bbox"]


class HeadsConfig(BaseModel):
    """The heads on top of the encoders (X²-VLM, section 3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    built: tuple[HeadName, ...] = Field(
        ("itc", "itm", "mlm", "bbox"),
        description="the heads that the model has; a fine-tuned model lacks those that its task does not need",
    )
    embed_dim: int = Field(256, gt=0, description="width of the common space of images and texts")
    temperature: float = Field(
        0.07, gt=0, description="initial temperature; learned, clamped to [0.001, 0.5]"
    )
    own_text_temperature: bool = Field(
        False, description="a second temperature for text against text, instead of the paper's single one"
    )
    region_pooling: Literal["touched", "overlap"] = Field(
        "touched",
        description="patches of a region's summary: all that the box touches count alike, as in the paper, or each "
        "by the share of it that the box covers, which is purer where boxes are few patches wide",
    )
    context_positions: float = Field(
        0.0,
        ge=0,
        description="a fixed 2-D sinusoid times this is added to the patches that the fusion encoder reads, for small "
        "vision encoders whose patches tell what, but after contrastive training no longer where",
    )
    tie_mlm: bool = Field(
        True, description="the masked-language head shares the text encoder's word embedding"
    )
    mlm_layer_norm_eps: float = Field(
        1e-12, gt=0, description="epsilon of the masked-language head's layer norm"
    )
    mlm_pretrained: bool = Field(
        False,
        description="the masked-language head begins with the one in the file of the text encoder's pretrained "
        "weights, as X²-VLM's begins with BERT's, and learns as slowly as they do; false begins it anew",
    )
    frames: int | None = Field(
        None, gt=0, description="frames of a video, each with a learned position; null for images only"
    )
    answers: int | None = Field(
        None, gt=1, description="classes of a head for answers (VQA by classification, NLVR2); null for none"
    )
    answer_images: int = Field(
        1,
        gt=0,
        description="images that an answer is about: 2 in NLVR2, whose fused states stand side by side",
    )
    decoder_layers: int | None = Field(
        None, gt=0, description="layers of a decoder of answers (VQA by generation); null for none"
    )


class ModelConfig(BaseModel):
    """What the model is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vision: VisionEncoderConfig = Field(description="the vision encoder")
    text: TextEncoderConfig = Field(description="the text encoder, with its tokenizer")
    fusion: FusionEncoderConfig = Field(description="the fusion encoder")
    heads: HeadsConfig = Field(HeadsConfig(), description="the heads on top of the encoders")
    init_from: NameOrPath | None = Field(
        None,
        description="a weights or run directory whose weights the model starts from: all but the encoders whose class "
        "or pretrained weights differ here, and a vocabulary head when the text encoder does",
    )
    init_except: tuple[Literal["vision", "text", "fusion", "heads"], ...] = Field(
        (), description="parts that do not come from init_from although they could"
    )

"""Settings of the model: three encoders and its heads. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from x2kit.plugin.choice import NameOrPath
from x2kit.plugin.components import (
    FusionEncoderConfig,
    HeadConfig,
    Kind,
    TextEncoderConfig,
    VisionEncoderConfig,
)

ENCODERS: tuple[Kind, ...] = ("vision", "text", "fusion")
"""The keys of `model` that name an encoder."""
HeadName = Literal["itc", "itm", "mlm", "bbox"]


class HeadsConfig(BaseModel):
    """The heads on top of the encoders (X²-VLM, section 3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    built: tuple[HeadName, ...] = Field(
        ("itc", "itm", "mlm", "bbox"),
        description="heads of the model; a fine-tuned model has only those of its task",
    )
    embed_dim: int = Field(256, gt=0, description="width of the common embedding space of images and texts")
    temperature: float = Field(
        0.07, gt=0, description="initial temperature; learned, clamped to [0.001, 0.5]"
    )
    own_text_temperature: bool = Field(
        False, description="a second temperature for text-text contrast, instead of the paper's single one"
    )
    region_pooling: Literal["touched", "overlap"] = Field(
        "touched",
        description="weights of the patches in a region's summary: touched, equal weights for all patches that the box "
        "touches, as in the paper; overlap, the share of each patch that the box covers, for boxes few patches wide",
    )
    context_positions: float = Field(
        0.0,
        ge=0,
        description="factor of a fixed 2-D sinusoid added to the patches that the fusion encoder reads, for small "
        "vision encoders whose patches lose their position in contrastive training",
    )
    tie_mlm: bool = Field(
        True, description="tie the masked-language head to the text encoder's word embedding"
    )
    mlm_layer_norm_eps: float = Field(
        1e-12, gt=0, description="epsilon of the masked-language head's layer norm"
    )
    mlm_pretrained: bool = Field(
        False,
        description="initialise the masked-language head from the text encoder's pretrained file, as X²-VLM does from "
        "BERT's, and train it at the rate of pretrained weights; false initialises it at random",
    )
    frames: int | None = Field(
        None,
        gt=0,
        description="frames of a video, each with a learned position; null for a model without videos",
    )
    answers: int | None = Field(
        None, gt=1, description="classes of the answer head (VQA by classification, NLVR2); null for no head"
    )
    answer_images: int = Field(
        1,
        gt=0,
        description="images of one answer: 2 in NLVR2, whose fused states are concatenated",
    )
    decoder_layers: int | None = Field(
        None, gt=0, description="layers of the answer decoder (VQA by generation); null for no decoder"
    )
    extra: dict[str, HeadConfig] = Field(
        {}, description="heads that tasks of plugins add, by names of your choice that the tasks refer to"
    )


class ModelConfig(BaseModel):
    """The model: encoders, heads, and the weights it starts from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vision: VisionEncoderConfig = Field(description="the vision encoder")
    text: TextEncoderConfig = Field(description="the text encoder, with its tokenizer")
    fusion: FusionEncoderConfig = Field(description="the fusion encoder")
    heads: HeadsConfig = Field(HeadsConfig(), description="the heads on top of the encoders")
    init_from: NameOrPath | None = Field(
        None,
        description="model to initialise from, a run or weights directory, an official checkpoint, "
        "hf-hub:ORGANISATION/NAME or a name of `x2kit models list`: all tensors except encoders whose class or "
        "pretrained weights differ here, and the vocabulary head if the text encoder differs",
    )
    init_except: tuple[Literal["vision", "text", "fusion", "heads"], ...] = Field(
        (), description="parts that are not initialised from init_from"
    )

"""Settings of training. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainingConfig(BaseModel):
    """Optimiser, schedule, device and what is saved when (defaults: X²-VLM base, 4M recipe)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(
        0,
        ge=0,
        description="optimiser steps of the run, required where there are streams; 0 saves the initial weights as "
        "they are",
    )
    seed: int = Field(42, ge=0, description="of initial weights, data order, masks and negatives")
    device: str = Field("auto", description="auto (cuda, then mps, then cpu), or a torch device")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "fp32",
        description="bf16: matrix products under autocast; auto: bf16 where the device is faster with it",
    )
    activation_checkpointing: bool = Field(
        False,
        description="layers keep only what went in and are computed again on the way back: a fraction of the memory, "
        "about a third more time, the same results",
    )
    threads: int | None = Field(None, gt=0, description="CPU threads; null leaves torch's choice")
    lr: float = Field(1e-4, gt=0, description="peak learning rate")
    lr_mult: float = Field(2.0, gt=0, description="factor for parameters that no pretrained weights filled")
    vision_lr: float | None = Field(
        None, gt=0, description="peak rate of the vision encoder; wins over lr_mult"
    )
    text_lr: float | None = Field(None, gt=0, description="peak rate of the text encoder; wins over lr_mult")
    fusion_lr: float | None = Field(
        None, gt=0, description="peak rate of the fusion encoder; wins over lr_mult"
    )
    mlm_head_lr: float | None = Field(
        None,
        gt=0,
        description="peak rate of the masked-language head; wins over lr_mult. In the official image-text model the "
        "head is part of the text encoder and has text_lr",
    )
    update_rule: Literal["torch", "official"] = Field(
        "torch",
        description="AdamW of torch; or as in the official code, which adds epsilon before the bias correction and "
        "decays after the Adam step, for runs that are to be those of the official code",
    )
    betas: tuple[float, float] = Field((0.9, 0.98), description="AdamW's averaging factors")
    eps: float = Field(1e-8, gt=0, description="AdamW's epsilon")
    weight_decay: float = Field(0.01, ge=0, description="decoupled; not for biases and norms of encoders")
    warmup: float = Field(2500, ge=0, description="steps of linear warm-up; below 1 a share of all steps")
    schedule: Literal["linear", "cosine"] = Field(
        "linear", description="decay after warm-up, down to min_lr_factor"
    )
    min_lr_factor: float = Field(
        0.0,
        ge=0,
        le=1,
        description="smallest share of the peak rates after warm-up; above 0 the linear schedule passes the peak by "
        "a little right after warm-up, as in the official code",
    )
    clip_norm: float | None = Field(1.0, gt=0, description="largest gradient norm; null for no clipping")
    checkpoint_every: int = Field(1000, gt=0, description="steps between checkpoints")
    keep_last: int = Field(2, gt=0, description="checkpoints that are kept")
    log_every: int = Field(20, gt=0, description="steps between lines in metrics.jsonl")

"""Define the settings of training. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from x2kit.plugin.choice import FROM_HERE, HARMLESS, require_own_names
from x2kit.plugin.training import OptimizerConfig, ReporterConfig
from x2kit.training.optim.config import AdamW
from x2kit.training.parts.config import TrainableConfig


class TrainingConfig(BaseModel):
    """Optimiser, schedule, device, checkpoints and logs (defaults: X²-VLM base, 4M recipe)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: Annotated[int, FROM_HERE] = Field(
        0,
        ge=0,
        description="optimiser steps of the run, required with streams; 0 saves the initial weights",
    )
    seed: int = Field(42, ge=0, description="of initial weights, data order, masks and negatives")
    device: Annotated[str, FROM_HERE] = Field(
        "auto", description="auto (cuda, then mps, then cpu), or a torch device"
    )
    precision: Annotated[Literal["auto", "fp32", "tf32", "bf16", "fp16"], FROM_HERE] = Field(
        "fp32",
        description="tf32: float32 whose matrix products on CUDA devices since Ampere keep 10 bits of mantissa, fp32 "
        "elsewhere; bf16: matrix products under autocast; fp16: the same with dynamic loss scaling, for CUDA devices "
        "without bf16; auto: bf16 where it is native and, on a CPU, measured to be faster at the start of the run, "
        "which records it",
    )
    activation_checkpointing: Annotated[bool | tuple[Literal["vision", "text", "fusion"], ...], HARMLESS] = (
        Field(
            False,
            description="keep only the inputs of layers and recompute the rest in the backward pass: much less memory "
            "for one more forward pass, the same results; true, or the encoders whose layers do so",
        )
    )
    compile: Annotated[bool, FROM_HERE] = Field(
        False,
        description="torch.compile of the layers: losses equal up to rounding; needs a compiler, which the first steps "
        "wait for; x2kit bench measures the gain",
    )
    distribution: Annotated[Literal["ddp", "fsdp"], FROM_HERE] = Field(
        "ddp",
        description="under torchrun: ddp keeps the whole model on every rank; fsdp shards parameters, gradients and "
        "optimiser over the ranks (FSDP2)",
    )
    shard_ranks: Annotated[int | None, FROM_HERE] = Field(
        None,
        gt=0,
        description="with fsdp, ranks that share one copy of the model, such as those of one machine: each group has a "
        "whole copy, and only gradients travel between groups (hybrid sharding); null for all ranks",
    )
    gather_gradient: Literal["exact", "official"] = Field(
        "exact",
        description="gradient of contrastive features gathered over ranks: exact is that of the whole batch on one "
        "rank; official takes each rank's own loss alone, which divides the encoders' gradient by the number of ranks",
    )
    negatives: Literal["global", "local"] = Field(
        "global",
        description="hard negatives of several ranks: global draws from the rows of all ranks, as one rank does with "
        "the whole batch; local from those of the rank, which sends fewer rows",
    )
    accumulation: Annotated[int, FROM_HERE] = Field(
        1,
        gt=0,
        description="parts of a step (gradient caching): losses and gradients of the whole batch, contrastive ones "
        "included, with the activations of one part; encoders run their forward pass twice. "
        "Modules with batch statistics see one part at a time",
    )
    deterministic: Annotated[bool, FROM_HERE] = Field(
        False,
        description="use only deterministic algorithms (torch.use_deterministic_algorithms), so that a run on a GPU "
        "repeats and resumes bit for bit; slower. Runs on a CPU are deterministic without it",
    )
    threads: Annotated[int | None, FROM_HERE] = Field(
        None, gt=0, description="CPU threads; null for torch's default"
    )
    trainable: TrainableConfig = Field(
        TrainableConfig(), description="the parameters that are trained, by part of the model; all by default"
    )
    lora_at_save: Annotated[Literal["merged", "beside"], HARMLESS] = Field(
        "merged",
        description="LoRA adapters in the weights directory: merged into the matrices; or beside the unchanged "
        "matrices, in lora.safetensors, which needs the extra peft to load",
    )
    lr: Annotated[float, FROM_HERE] = Field(1e-4, gt=0, description="peak learning rate")
    lr_mult: Annotated[float, FROM_HERE] = Field(
        2.0, gt=0, description="factor of the rate of parameters without pretrained weights"
    )
    vision_lr: Annotated[float | None, FROM_HERE] = Field(
        None, gt=0, description="peak rate of the vision encoder; overrides lr and lr_mult"
    )
    text_lr: Annotated[float | None, FROM_HERE] = Field(
        None, gt=0, description="peak rate of the text encoder; overrides lr and lr_mult"
    )
    fusion_lr: Annotated[float | None, FROM_HERE] = Field(
        None, gt=0, description="peak rate of the fusion encoder; overrides lr and lr_mult"
    )
    mlm_head_lr: Annotated[float | None, FROM_HERE] = Field(
        None,
        gt=0,
        description="peak rate of the masked-language head; overrides lr and lr_mult. In the official image-text model "
        "the head is part of the text encoder and has text_lr",
    )
    optimizer: OptimizerConfig = Field(
        AdamW(), description="optimiser; weight_decay and all rates hold for any"
    )
    layer_decay: Annotated[float, FROM_HERE] = Field(
        1.0,
        gt=0,
        le=1,
        description="factor of the rate for each layer of an encoder further from its end (BEiT); parameters without "
        "pretrained weights keep their rate. 1 for none",
    )
    weight_decay: Annotated[float, FROM_HERE] = Field(
        0.01, ge=0, description="decoupled; not for biases and norms of encoders"
    )
    warmup: Annotated[float, FROM_HERE] = Field(
        2500, ge=0, description="steps of linear warm-up; below 1, the share of all steps"
    )
    schedule: Annotated[Literal["linear", "cosine", "constant"], FROM_HERE] = Field(
        "linear",
        description="rates after warm-up: linear or cosine decay to min_lr_factor; constant up to the last steps, the "
        "share decay_ratio of all, in which they fall linearly",
    )
    decay_ratio: Annotated[float, FROM_HERE] = Field(
        0.0, ge=0, le=1, description="share of all steps in which the constant schedule decays; 0 for never"
    )
    min_lr_factor: Annotated[float, FROM_HERE] = Field(
        0.0,
        ge=0,
        le=1,
        description="smallest factor of the peak rates after warm-up; above 0 the linear schedule slightly exceeds the "
        "peak after warm-up, as in the official code",
    )
    ema: Annotated[float | None, FROM_HERE] = Field(
        None,
        gt=0,
        lt=1,
        description="exponential moving average of the weights with this factor, at step t at most (1 + t) / (10 + t); "
        "null for none",
    )
    use_ema: Annotated[bool, FROM_HERE] = Field(
        True,
        description="with ema: validation measures the averages and weights/ holds them, not the last weights",
    )
    clip_norm: Annotated[float | None, FROM_HERE] = Field(
        1.0, gt=0, description="largest gradient norm; null for no clipping"
    )
    non_finite: Annotated[Literal["stop", "skip"], FROM_HERE] = Field(
        "stop",
        description="for a loss or gradient norm that is NaN or Inf: stop ends the run and saves the batch for x2kit "
        "debug; skip skips the update and counts it. Parameters and optimiser stay unchanged in both",
    )
    max_skipped: Annotated[int, FROM_HERE] = Field(
        20, gt=0, description="consecutive skipped updates after which the run stops"
    )
    checkpoint_every: Annotated[int, HARMLESS] = Field(1000, gt=0, description="steps between checkpoints")
    keep_last: Annotated[int, HARMLESS] = Field(2, gt=0, description="number of newest checkpoints to keep")
    keep_every: Annotated[int | None, HARMLESS] = Field(
        None,
        gt=0,
        description="keep checkpoints at multiples of this number of steps for good; null for none",
    )
    keep_best: Annotated[str | None, HARMLESS] = Field(
        None,
        description="a value of metrics.jsonl, such as loss or STREAM.itc; also keep the checkpoint with its best "
        "value, whatever its age",
    )
    best_is: Annotated[Literal["lowest", "highest"], HARMLESS] = Field(
        "lowest", description="whether the lowest or highest value of keep_best is best"
    )
    async_saving: Annotated[bool | None, HARMLESS] = Field(
        None,
        description="write checkpoints in the background, from a copy in CPU memory; the results are the same. null: "
        "where it costs nothing, that is if another device trains, the copy fits into half of the free memory, and "
        "checkpoints are not sharded",
    )
    sharded_checkpoints: Annotated[bool, HARMLESS] = Field(
        False,
        description="with distribution fsdp every rank writes its shards (torch.distributed.checkpoint) and none "
        "gathers the whole state; any number of ranks resumes from it",
    )
    log_every: Annotated[int, HARMLESS] = Field(20, gt=0, description="steps between lines in metrics.jsonl")
    reporters: Annotated[dict[str, ReporterConfig], HARMLESS] = Field(
        {},
        description="further destinations of the values in metrics.jsonl, by name: letters, digits, - and _",
    )

    @property
    def warmup_steps(self) -> int:
        """Steps of linear warm-up; a share is rounded down, as in the official code."""
        return int(self.warmup * self.steps) if self.warmup < 1 else int(self.warmup)

    @field_validator("reporters")
    @classmethod
    def _require_folder_names(cls, reporters: dict[str, ReporterConfig]) -> dict[str, ReporterConfig]:
        require_own_names("a reporter's name", reporters)
        return reporters

    @model_validator(mode="after")
    def _decay_of_constant(self) -> Self:
        if self.decay_ratio and self.schedule != "constant":
            raise ValueError(
                f"decay_ratio: schedule {self.schedule} decays in all steps after warm-up; set schedule to constant, "
                "or decay_ratio to 0"
            )
        return self

    @model_validator(mode="after")
    def _optimizer_takes_shards(self) -> Self:
        if self.distribution == "fsdp" and self.optimizer.sharding == "none":
            raise ValueError(
                f"optimizer: {self.optimizer.component_name()} needs whole parameters, and distribution fsdp shards "
                "them over the ranks; set distribution to ddp, or choose another optimizer"
            )
        return self

    @model_validator(mode="after")
    def _require_shards(self) -> Self:
        if self.shard_ranks is not None and self.distribution == "ddp":
            raise ValueError(
                "shard_ranks: distribution ddp has no shards, as every rank has the whole model; set distribution to "
                "fsdp, or shard_ranks to null"
            )
        if self.sharded_checkpoints and self.distribution == "ddp":
            raise ValueError(
                "sharded_checkpoints: distribution ddp has no shards, as every rank has the whole model; set "
                "distribution to fsdp, or sharded_checkpoints to false"
            )
        if self.sharded_checkpoints and self.async_saving:
            raise ValueError(
                "sharded_checkpoints and async_saving: shards are written synchronously; set one of them to false"
            )
        return self

"""Settings of training. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from x2kit.plugin.choice import FROM_HERE, HARMLESS, require_own_names
from x2kit.plugin.components import ReporterConfig


class TrainingConfig(BaseModel):
    """Optimiser, schedule, device and what is saved when (defaults: X²-VLM base, 4M recipe)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: Annotated[int, FROM_HERE] = Field(
        0,
        ge=0,
        description="optimiser steps of the run, required where there are streams; 0 saves the initial weights as "
        "they are",
    )
    seed: int = Field(42, ge=0, description="of initial weights, data order, masks and negatives")
    device: Annotated[str, FROM_HERE] = Field(
        "auto", description="auto (cuda, then mps, then cpu), or a torch device"
    )
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"], FROM_HERE] = Field(
        "fp32",
        description="bf16: matrix products under autocast; fp16: the same with losses scaled by a factor that adapts, "
        "for CUDA devices without bf16; auto: bf16 where the device is faster with it",
    )
    activation_checkpointing: Annotated[bool, HARMLESS] = Field(
        False,
        description="layers keep only what went in and are computed again on the way back: a fraction of the memory "
        "for the time of their second forward pass, the same results",
    )
    compile: Annotated[bool, FROM_HERE] = Field(
        False,
        description="torch.compile of the layers: the same losses but for the last digits; first steps wait for the "
        "compiler, which has to be there; x2kit bench tells whether it pays. Not with activation_checkpointing",
    )
    distribution: Annotated[Literal["ddp", "fsdp"], FROM_HERE] = Field(
        "ddp",
        description="where torchrun starts several processes: ddp has the whole model in each; fsdp shards parameters, "
        "gradients and optimiser over them (FSDP2)",
    )
    gather_gradient: Literal["exact", "official"] = Field(
        "exact",
        description="of contrastive features that several processes gather: exact, as one process with the whole batch "
        "has it; official, in which each process learns from its own loss alone, so that the encoders get a fraction",
    )
    negatives: Literal["global", "local"] = Field(
        "global",
        description="hard negatives, where there are several processes: drawn from the rows of all of them, as one "
        "process would; or from a process's own, which sends fewer rows around",
    )
    accumulation: Annotated[int, FROM_HERE] = Field(
        1,
        gt=0,
        description="parts in which a step is computed: losses and gradients of the whole batch, the contrastive ones "
        "included, with the activations of one part; the encoders' forward passes run twice. Not for fsdp. "
        "Modules with batch statistics see one part at a time",
    )
    deterministic: Annotated[bool, FROM_HERE] = Field(
        False,
        description="use deterministic algorithms alone (torch.use_deterministic_algorithms), so that a run on a GPU "
        "can be repeated and resumed bit by bit; slower. On a CPU runs are deterministic without it",
    )
    threads: Annotated[int | None, FROM_HERE] = Field(
        None, gt=0, description="CPU threads; null leaves torch's choice"
    )
    lr: Annotated[float, FROM_HERE] = Field(1e-4, gt=0, description="peak learning rate")
    lr_mult: Annotated[float, FROM_HERE] = Field(
        2.0, gt=0, description="factor for parameters that no pretrained weights filled"
    )
    vision_lr: Annotated[float | None, FROM_HERE] = Field(
        None, gt=0, description="peak rate of the vision encoder; wins over lr_mult"
    )
    text_lr: Annotated[float | None, FROM_HERE] = Field(
        None, gt=0, description="peak rate of the text encoder; wins over lr_mult"
    )
    fusion_lr: Annotated[float | None, FROM_HERE] = Field(
        None, gt=0, description="peak rate of the fusion encoder; wins over lr_mult"
    )
    mlm_head_lr: Annotated[float | None, FROM_HERE] = Field(
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
    betas: Annotated[tuple[float, float], FROM_HERE] = Field(
        (0.9, 0.98), description="AdamW's averaging factors"
    )
    eps: Annotated[float, FROM_HERE] = Field(1e-8, gt=0, description="AdamW's epsilon")
    weight_decay: Annotated[float, FROM_HERE] = Field(
        0.01, ge=0, description="decoupled; not for biases and norms of encoders"
    )
    warmup: Annotated[float, FROM_HERE] = Field(
        2500, ge=0, description="steps of linear warm-up; below 1 a share of all steps"
    )
    schedule: Annotated[Literal["linear", "cosine"], FROM_HERE] = Field(
        "linear", description="decay after warm-up, down to min_lr_factor"
    )
    min_lr_factor: Annotated[float, FROM_HERE] = Field(
        0.0,
        ge=0,
        le=1,
        description="smallest share of the peak rates after warm-up; above 0 the linear schedule passes the peak by "
        "a little right after warm-up, as in the official code",
    )
    clip_norm: Annotated[float | None, FROM_HERE] = Field(
        1.0, gt=0, description="largest gradient norm; null for no clipping"
    )
    non_finite: Annotated[Literal["stop", "skip"], FROM_HERE] = Field(
        "stop",
        description="where a loss or the gradient norm of a step is not finite: stop ends the run and saves the batch "
        "for x2kit debug; skip leaves the update out and counts it. Neither lets it reach parameters or optimiser",
    )
    max_skipped: Annotated[int, FROM_HERE] = Field(
        20, gt=0, description="updates left out in a row after which the run stops nevertheless"
    )
    checkpoint_every: Annotated[int, HARMLESS] = Field(1000, gt=0, description="steps between checkpoints")
    keep_last: Annotated[int, HARMLESS] = Field(2, gt=0, description="newest checkpoints that are kept")
    keep_every: Annotated[int | None, HARMLESS] = Field(
        None,
        gt=0,
        description="checkpoints after a multiple of so many steps are kept for good; null for none",
    )
    keep_best: Annotated[str | None, HARMLESS] = Field(
        None,
        description="a value of metrics.jsonl, such as loss or STREAM.itc; the checkpoint where it was best is kept "
        "as well, whatever its age",
    )
    best_is: Annotated[Literal["lowest", "highest"], HARMLESS] = Field(
        "lowest", description="which value of keep_best is best"
    )
    async_saving: Annotated[bool, HARMLESS] = Field(
        False,
        description="write checkpoints beside the training, from a copy in the memory of the CPU; the results are "
        "the same",
    )
    sharded_checkpoints: Annotated[bool, HARMLESS] = Field(
        False,
        description="with distribution fsdp every process writes its own shards of a checkpoint "
        "(torch.distributed.checkpoint), and none gathers the whole state; any number of processes goes on from it",
    )
    log_every: Annotated[int, HARMLESS] = Field(20, gt=0, description="steps between lines in metrics.jsonl")
    reporters: Annotated[dict[str, ReporterConfig], HARMLESS] = Field(
        {},
        description="where the numbers of metrics.jsonl go beside the run directory, by names of your choice: letters, "
        "digits, - and _",
    )

    @property
    def warmup_steps(self) -> int:
        """Steps of linear warm-up of the whole run."""
        return int(self.warmup * self.steps) if self.warmup < 1 else int(self.warmup)

    @field_validator("reporters")
    @classmethod
    def _names_are_names_of_folders(cls, reporters: dict[str, ReporterConfig]) -> dict[str, ReporterConfig]:
        require_own_names("a reporter's name", reporters)
        return reporters

    @model_validator(mode="after")
    def _compiled_layers_are_not_computed_again(self) -> Self:
        if self.compile and self.activation_checkpointing:
            raise ValueError(
                "compile: not together with activation_checkpointing, as the second pass of a layer may be compiled "
                "otherwise than the first; set one of them to false"
            )
        return self

    @model_validator(mode="after")
    def _shards_can_be_saved(self) -> Self:
        if self.sharded_checkpoints and self.distribution == "ddp":
            raise ValueError(
                "sharded_checkpoints: with distribution ddp every process has the whole model, so there are no shards; "
                "set distribution to fsdp, or sharded_checkpoints to false"
            )
        if self.sharded_checkpoints and self.async_saving:
            raise ValueError(
                "sharded_checkpoints and async_saving: shards are written while the training waits; set one of them to "
                "false"
            )
        return self

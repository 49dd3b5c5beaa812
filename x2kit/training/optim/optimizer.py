"""AdamW with the paper's parameter groups, and its schedule. Imports torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from x2kit.model import X2VLM
from x2kit.plugin.encoders import Encoder
from x2kit.training.config import TrainingConfig
from x2kit.training.optim.official_adamw import OfficialAdamW

ENCODERS = ("vision", "text", "fusion")
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.RMSNorm)
HEADS_WITHOUT_NORMS = ("itm_head", "bbox_head")
"""Heads whose layer norms the official code does let decay: it tells norms by name, and theirs have none."""


def parameter_groups(model: X2VLM, config: TrainingConfig) -> list[dict[str, object]]:
    """One group for each learning rate and weight decay (X²-VLM's optimiser).

    Biases, relative position bias tables among them, and norms of the encoders do not decay. Parameters that no
    pretrained weights filled learn `lr_mult` times as fast; an encoder's own rate wins over that.

    Returns: groups with `params`, `names`, `peak` (learning rate after warm-up), `weight_decay`.
    """
    groups: dict[tuple[float, bool, bool], dict[str, object]] = {}
    without_decay = set(_without_decay(model))
    fresh = set(_fresh(model)) - model.kept
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = getattr(config, f"{name.partition('.')[0]}_lr", None)
        if rate is None:
            rate = config.lr * (config.lr_mult if name in fresh else 1)
        # The update takes sharded and whole parameters in groups of their own.
        key = (rate, name not in without_decay, isinstance(parameter, DTensor))
        group = groups.setdefault(
            key,
            {"params": [], "names": [], "peak": rate, "weight_decay": config.weight_decay if key[1] else 0.0},
        )
        group["params"].append(parameter)  # type: ignore[attr-defined]
        group["names"].append(name)  # type: ignore[attr-defined]
    return list(groups.values())


def _without_decay(model: X2VLM) -> Iterator[str]:
    for name, module in model.named_modules():
        own = [
            f"{name}.{parameter}" if name else parameter
            for parameter, _ in module.named_parameters(recurse=False)
        ]
        if isinstance(module, NORMS) and name.partition(".")[0] not in HEADS_WITHOUT_NORMS:
            yield from own
        if isinstance(module, Encoder):
            yield from (f"{name}.{parameter}" for parameter in module.no_decay())
        yield from (parameter for parameter in own if "bias" in parameter)


def _fresh(model: X2VLM) -> Iterator[str]:
    for name, _ in model.named_parameters():
        if name.partition(".")[0] not in ENCODERS:
            yield name
    for part in ENCODERS:
        yield from (f"{part}.{name}" for name in getattr(model, part).fresh())


def build_optimizer(model: X2VLM, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW over the parameter groups, by torch's rule fused where the device has it, or by the official one."""
    groups = parameter_groups(model, config)
    if config.update_rule == "official":
        return OfficialAdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def warmup_steps(config: TrainingConfig) -> int:
    """Steps of linear warm-up; a share of all steps is rounded down, as in the official code."""
    return config.warmup_steps


def rate_factor(step: int, config: TrainingConfig) -> float:
    """The share of the peak rate at a step: linear from 0 over the warm-up, then down to `min_lr_factor`.

    As in the official code the linear schedule lies `min_lr_factor` * warm-up / (steps - warm-up) above the line from
    1 to `min_lr_factor`: a little above 1 right after the warm-up, and above the smallest share at the end.

    Args:
        step: from 0; the first step has rate 0 unless there is no warm-up.
    """
    warmup, lowest = warmup_steps(config), config.min_lr_factor
    if step < warmup:
        return step / warmup
    falling = max(1, config.steps - warmup)
    if config.schedule == "cosine":
        left = max(0.0, (config.steps - step) / falling)
        return lowest + (1 - lowest) * (1 - math.cos(math.pi * left)) / 2
    return max(lowest, (config.steps - (1 - lowest) * step) / falling)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to this share of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def clip_gradients(model: X2VLM, largest: float | None) -> Tensor:
    """Scale the gradients down to a norm; returns the norm before, a scalar."""
    largest = math.inf if largest is None else largest
    parameters = list(model.parameters())
    sharded = [parameter for parameter in parameters if isinstance(parameter, DTensor)]
    if not sharded:
        before: Tensor = torch.nn.utils.clip_grad_norm_(parameters, largest)
        return before
    # torch's own takes sharded and whole gradients, but not both at once.
    whole = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    norm = _norm_over([[p.grad for p in some if p.grad is not None] for some in (sharded, whole)])
    for some in (sharded, whole):
        clip_grads_with_norm_(some, largest, norm)
    return norm


def _norm_over(groups: Sequence[Sequence[Tensor]]) -> Tensor:
    """Compute the norm over groups of gradients; an empty group has no device and is left out."""
    norms = [get_total_norm(gradients) for gradients in groups if gradients]
    if not norms:
        return torch.zeros(())
    norm: Tensor = torch.stack([n.full_tensor() if isinstance(n, DTensor) else n for n in norms]).norm()
    return norm

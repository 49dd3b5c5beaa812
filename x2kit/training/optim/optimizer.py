"""Build parameter groups and the optimiser, set the learning rate, clip gradients. Imports torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from x2kit.errors import PluginError
from x2kit.model import X2VLM
from x2kit.model.config import ENCODERS
from x2kit.model.lora import lora_names
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.encoders import Encoder
from x2kit.plugin.toolkit.stacks import layers_of
from x2kit.plugin.training import ParameterGroup
from x2kit.training.config import TrainingConfig

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.RMSNorm)
HEADS_WITHOUT_NORMS = ("itm_head", "bbox_head")
"""Heads whose layer norms decay, as in the official code, which finds norms by name and theirs have none."""


def parameter_groups(model: X2VLM, config: TrainingConfig) -> list[ParameterGroup]:
    """Group parameters by learning rate, weight decay and structure (X²-VLM's optimiser).

    Biases, including relative position bias tables, and norms of encoders do not decay. Parameters without pretrained
    weights have `lr_mult` times the learning rate; an encoder's own rate takes precedence. Others of an encoder have
    `layer_decay` times the rate for each layer above theirs. Hidden matrices of encoders are in groups of their own.
    """
    groups: dict[tuple[float, bool, bool, bool], ParameterGroup] = {}
    without_decay, matrices = set(_without_decay(model)), set(_hidden_matrices(model))
    fresh, depths = set(_fresh(model)) - model.kept, _layers_above(model)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = getattr(config, f"{name.partition('.')[0]}_lr", None)
        if rate is None:
            rate = config.lr * (config.lr_mult if name in fresh else 1) * _head_lr_mult(model, name)
        if name not in fresh:
            rate *= config.layer_decay ** depths.get(name, 0)
        # Foreach updates do not mix sharded and whole parameters.
        key = (rate, name not in without_decay, name in matrices, isinstance(parameter, DTensor))
        if key not in groups:
            decay = config.weight_decay if key[1] else 0.0
            groups[key] = ParameterGroup(
                params=[], names=[], lr=rate, peak=rate, weight_decay=decay, matrices=key[2]
            )
        groups[key]["params"].append(parameter)
        groups[key]["names"].append(name)
    return list(groups.values())


def _head_lr_mult(model: X2VLM, name: str) -> float:
    return next((factor for start, factor in model.head_lr_mult.items() if name.startswith(start)), 1.0)


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


def _layers_above(model: X2VLM) -> dict[str, int]:
    """Count the layers of its encoder above each parameter, in the order of its modules, as in BEiT (arXiv:2106.08254).

    0 after the last layer, 1 for the last layer, one more than all layers before the first. A parameter between two
    layers counts as one of the layer before it.
    """
    found: dict[str, int] = {}
    for part in ENCODERS:
        encoder: Encoder = getattr(model, part)
        layers = list(layers_of(encoder))
        numbers = {id(parameter): n for n, layer in enumerate(layers, 1) for parameter in layer.parameters()}
        last = 0
        for name, parameter in encoder.named_parameters():
            last = numbers.get(id(parameter), last)
            outside_above = last == len(layers) and id(parameter) not in numbers
            found[f"{part}.{name}"] = 0 if outside_above else len(layers) + 1 - last
    return found


def _hidden_matrices(model: X2VLM) -> Iterator[str]:
    for name, module in model.named_modules():
        if not isinstance(module, Encoder):
            continue
        shapes = {own: parameter.shape for own, parameter in module.named_parameters(remove_duplicate=False)}
        for own in module.hidden_matrices():
            if len(shapes.get(own, ())) != 2:
                raise PluginError(
                    f"{type(module).__name__} ({name}): hidden_matrices() names {own}, which is no matrix of it: "
                    f"{list(shapes[own]) if own in shapes else 'no such parameter'}"
                )
            yield f"{name}.{own}"


def _fresh(model: X2VLM) -> Iterator[str]:
    for name, _ in model.named_parameters():
        if name.partition(".")[0] not in ENCODERS:
            yield name
    yield from lora_names(model)
    for part in ENCODERS:
        yield from (f"{part}.{name}" for name in getattr(model, part).fresh())


def state_sizes(model: X2VLM, config: TrainingConfig) -> dict[str, int]:
    """Count the values that the optimiser, and `ema`, keep for each trained parameter, of all ranks together."""
    return {
        name: config.optimizer.state_size(tuple(parameter.shape), group["matrices"])
        + (0 if config.ema is None else parameter.numel())
        for group in parameter_groups(model, config)
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }


def build_optimizer(model: X2VLM, config: TrainingConfig) -> torch.optim.Optimizer:
    """Build the recipe's optimiser over the parameter groups.

    Its groups also have `counters`, the keys that `restore_optimizer` takes from a checkpoint. Raises: PluginError for
    an error in the optimiser's code.
    """
    with component_faults(config.optimizer):
        optimizer = config.optimizer.build(parameter_groups(model, config))
    for group in optimizer.param_groups:
        group["counters"] = config.optimizer.counters
    return optimizer


def rate_factor(step: int, config: TrainingConfig) -> float:
    """Compute the factor of the peak rate: linear warm-up from 0, then the schedule, down to `min_lr_factor`.

    As in the official code, the linear schedule lies `min_lr_factor` * warm-up / (steps - warm-up) above the line from
    1 to `min_lr_factor`: slightly above 1 after the warm-up, and above `min_lr_factor` at the end. The constant one
    decays in its last steps alone (warmup-stable-decay, arXiv:2404.06395).

    Args:
        step: from 0; the first step has rate 0 unless there is no warm-up.
    """
    warmup, lowest = config.warmup_steps, config.min_lr_factor
    if step < warmup:
        return step / warmup
    if config.schedule == "constant":
        decay_steps = int(config.decay_ratio * config.steps)
        left = (config.steps - step) / decay_steps if decay_steps else 1.0
        return lowest + (1 - lowest) * min(1.0, max(0.0, left))
    decay_steps = max(1, config.steps - warmup)
    if config.schedule == "cosine":
        left = max(0.0, (config.steps - step) / decay_steps)
        return lowest + (1 - lowest) * (1 - math.cos(math.pi * left)) / 2
    return max(lowest, (config.steps - (1 - lowest) * step) / decay_steps)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of every group to `factor` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def clip_gradients(model: X2VLM, largest: float | None) -> Tensor:
    """Clip gradients to a norm of at most `largest`; None for no limit.

    Returns: the norm before clipping, a scalar.
    """
    largest = math.inf if largest is None else largest
    parameters = list(model.parameters())
    sharded = [parameter for parameter in parameters if isinstance(parameter, DTensor)]
    if not sharded:
        norm: Tensor = torch.nn.utils.clip_grad_norm_(parameters, largest)
        return norm
    # torch.nn.utils.clip_grad_norm_ takes sharded or whole gradients, not both at once.
    whole = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    norm = _norm_over([[p.grad for p in some if p.grad is not None] for some in (sharded, whole)])
    for some in (sharded, whole):
        clip_grads_with_norm_(some, largest, norm)
    return norm


def _norm_over(groups: Sequence[Sequence[Tensor]]) -> Tensor:
    """Compute the norm over groups of gradients; empty groups, which have no device, are ignored."""
    norms = [get_total_norm(gradients) for gradients in groups if gradients]
    if not norms:
        return torch.zeros(())
    norm: Tensor = torch.stack([n.full_tensor() if isinstance(n, DTensor) else n for n in norms]).norm()
    return norm

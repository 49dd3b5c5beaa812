"""What a recipe costs, worked out on tensors without memory. Imports torch.

The model is built on the meta device and makes the forward pass of one step of the global batch, by the code of
training itself; so every stream, mask, hard negative and head counts as it would. Texts are taken as long as
`max_tokens` lets them be, all losses as on, and the backward pass as twice the forward one.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from x2kit.data.config import DataConfig
from x2kit.data.corpus import training_texts
from x2kit.data.phases import Phase
from x2kit.errors import MissingFileError, SettingError
from x2kit.model import X2VLM
from x2kit.model.build import build_model, without_initialisation
from x2kit.model.config import ModelConfig
from x2kit.plugin import ImageSpec, Tokenizer
from x2kit.training.meta_batch import meta_batch, meta_negatives
from x2kit.training.operations import count_operations
from x2kit.training.step import Active, step_losses

BYTES = 4
"""Of a parameter, a gradient and each of AdamW's two averages: all are float32, whatever the precision."""
BACKWARD = 2
"""Operations of the backward pass over those of the forward one: gradients of inputs and of weights."""


class StepCosts(NamedTuple):
    """One step of the global batch.

    Attributes:
        flops: floating point operations, forward and backward.
        activations: bytes that the forward pass keeps for the backward one, in float32.
    """

    flops: int
    activations: int


def meta_model(config: ModelConfig, data: DataConfig) -> X2VLM:
    """The model of a recipe, with shapes and without memory.

    Pretrained weights, which alone know their sizes, are read, and a tokenizer that the run would train is trained;
    where there are no texts, or their files are missing, the model has the largest vocabulary that it can get.
    Raises: X2KitError where that cannot be done.
    """
    if any(getattr(part, "pretrained", None) for part in (config.vision, config.text, config.fusion)):
        return build_model(config, training_texts(data)).to("meta").eval()
    try:
        tokenizer = config.text.official_tokenizer(None)
    except SettingError:  # only the official encoders know their ids without a tokenizer
        tokenizer = _tokenizer(config, data)
    with torch.device("meta"), without_initialisation():
        return build_model(config, tokenizer=tokenizer).eval()


def _tokenizer(config: ModelConfig, data: DataConfig) -> Tokenizer:
    if config.text.describe().vocab_size is not None:
        return config.text.build_tokenizer()
    largest = config.text.largest_tokenizer()
    if largest is not None and not data.streams:
        return largest
    try:
        return config.text.build_tokenizer(training_texts(data))
    except MissingFileError:
        if largest is None:
            raise
        return largest


def parameter_count(model: X2VLM) -> int:
    """Parameters, shared ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def step_costs(model: X2VLM, image: ImageSpec, data: DataConfig, active: Active) -> StepCosts:
    """What a step of these streams costs.

    Args:
        model: on the meta device.
        image: what the vision encoder takes.
        data: the streams, at least one.
        active: the losses that count, by stream.
    """
    batch = meta_batch(image, data)
    kept: dict[int, Tensor] = {}
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in own:
            kept[storage] = tensor  # which also keeps the storage's address from being used again
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with _FusedAttention(), hooks, count_operations() as counter:
        step_losses(model, batch, active, meta_negatives(batch))
    activations = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    return StepCosts((1 + BACKWARD) * counter.get_total_flops(), activations)


def phase_costs(model: X2VLM, data: DataConfig, phases: Sequence[Phase]) -> list[int]:
    """Count the operations of a step in each phase of a run.

    Objectives of plugins and streams from which nothing is learned in a phase are left out.

    Args:
        model: on any device, as it was built; it is not changed and its weights are not copied.
        data: the streams.
        phases: of the run.
    """
    on_meta = _meta_copy(model)
    return [
        step_costs(on_meta, model.image_spec, _learned_in(data, phase), phase.losses).flops
        for phase in phases
    ]


def _meta_copy(model: X2VLM) -> X2VLM:
    """Copy the modules with tensors that have shapes and no memory; the tokenizer is shared."""
    tokenizer = model.text.tokenizer
    memo: dict[int, Any] = {id(tokenizer): tokenizer}
    for parameter in model.parameters():
        memo[id(parameter)] = torch.nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.to("meta")
    return deepcopy(model, memo).eval()


def _learned_in(data: DataConfig, phase: Phase) -> DataConfig:
    streams = {
        name: stream for name, stream in data.streams.items() if phase.losses[name] or phase.objectives[name]
    }
    return data.model_copy(update={"streams": streams})


class _FusedAttention(TorchFunctionMode):
    """Attention as accelerators make it, which keeps no weights of pairs of tokens."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        named = dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {})
        return _Attention.apply(named["query"], named["key"], named["value"])  # type: ignore[no-untyped-call]


class _Attention(torch.autograd.Function):
    """The two products of attention; [B, H, L, D] each. There is no way back."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mixed = query @ key.transpose(-2, -1) @ value
        ctx.save_for_backward(query, key, value, mixed)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise NotImplementedError("costs are those of the forward pass")

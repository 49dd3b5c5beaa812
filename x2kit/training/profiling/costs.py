"""Floating point operations of what runs inside: matrix products, convolutions and attention. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from x2kit.data.config import DataConfig, Phase, StreamConfig
from x2kit.data.pipeline.batch import (
    Batch,
    MaskedTexts,
    PairedRows,
    ParallelRows,
    Regions,
    Rows,
    TextRows,
    Texts,
)
from x2kit.data.pipeline.corpus import training_texts
from x2kit.errors import MissingFileError, SettingError
from x2kit.model import X2VLM
from x2kit.model.build import build_model, without_initialisation
from x2kit.model.config import ModelConfig
from x2kit.plugin import ImageSpec, Tokenizer
from x2kit.training.step.losses import Active, Negatives, step_losses

Shape = tuple[int, ...]


def count_operations() -> FlopCounterMode:
    """A context that counts, in `get_total_flops()`; torch's own one passes over the attention kernel of CPUs."""
    aten = torch.ops.aten
    of_cpus = {
        aten._scaled_dot_product_flash_attention_for_cpu: _forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
    }
    return FlopCounterMode(display=False, custom_mapping=of_cpus)


def _forward(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Scores, then the mean of the values; [B, H, L, D] each."""
    return _pairs(query, key) * 2 * (query[-1] + value[-1])


def _backward(gradient: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Scores once more, and the gradients of scores, values, queries and keys."""
    return _pairs(query, key) * 2 * (3 * query[-1] + 2 * value[-1])


def _pairs(query: Shape, key: Shape) -> int:
    batch, heads, length, _ = query
    return batch * heads * length * key[-2]


META = torch.device("meta")


def images_of(stream: StreamConfig) -> int:
    """Images and frames that a step encodes for a stream; those of another stream are counted there."""
    if stream.images_from is not None or stream.kind not in ("image-text", "region-text", "video-text"):
        return 0
    return stream.records_a_step * (stream.frames if stream.kind == "video-text" else 1)


def tokens_of(stream: StreamConfig) -> int:
    """Tokens of the texts of a step, each as long as it may be."""
    return stream.batch_size * stream.max_tokens * (2 if stream.kind == "parallel-text" else 1)


def meta_batch(image: ImageSpec, data: DataConfig) -> Batch:
    """The batch of a step: every row there, every text of `max_tokens` tokens."""
    streams = data.streams
    all_images = sum(map(images_of, streams.values()))
    videos = [stream for stream in streams.values() if stream.kind == "video-text"]
    images = (
        torch.empty(all_images, image.channels, image.size, image.size, device=META) if all_images else None
    )
    return Batch(
        0,
        images,
        {name: _rows(stream) for name, stream in streams.items()},
        {},
        [],
        videos=tuple(stream.frames for stream in videos for _ in range(stream.records_a_step)),
    )


def meta_negatives(batch: Batch) -> dict[str, Negatives]:
    """Hard negatives of the rows that are fused, of each stream that has pairs."""
    fused = {
        name: len(rows.group[: rows.fused])
        for name, rows in batch.streams.items()
        if not isinstance(rows, TextRows)
    }
    return {name: Negatives(_numbers(rows), _numbers(rows)) for name, rows in fused.items()}


def _rows(stream: StreamConfig) -> Rows:
    count, group = stream.batch_size, _numbers(stream.batch_size)
    fused = count if stream.fusion_rows is None else min(count, stream.fusion_rows)
    masking = stream.masking
    masks = min(masking.max_masks, max(1, round(masking.mask_prob * stream.max_tokens)))
    masked = MaskedTexts(_numbers(fused, stream.max_tokens), _numbers(fused, masks), _numbers(fused, masks))
    if stream.kind == "text":
        return TextRows(_texts(stream), masked)
    if stream.kind == "parallel-text":
        return ParallelRows(_texts(stream), _texts(stream), masked, group, stream.fusion_rows)
    regions = None
    if stream.kind == "region-text":
        whole = torch.empty(count, dtype=torch.bool, device=META)
        regions = Regions(torch.empty(count, 4, device=META), whole)
    return PairedRows(_numbers(count), _texts(stream), masked, group, regions, stream.fusion_rows)


def _texts(stream: StreamConfig) -> Texts:
    ids = _numbers(stream.batch_size, stream.max_tokens)
    return Texts(ids, torch.empty(ids.shape, dtype=torch.bool, device=META))


def _numbers(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.int64, device=META)


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

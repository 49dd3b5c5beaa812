"""Count operations and activations of a step on the meta device, without computing it. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
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
    TaskRows,
    TextRows,
)
from x2kit.data.pipeline.corpus import training_texts
from x2kit.data.storage.locations import FileMissing
from x2kit.errors import MissingFileError, SettingError
from x2kit.model import X2VLM
from x2kit.model.build import build_model, without_initialisation
from x2kit.model.config import ENCODERS, ModelConfig
from x2kit.plugin import (
    FusedTexts,
    ImageSpec,
    Prediction,
    Reader,
    Record,
    Task,
    TaskConfig,
    TaskRow,
    Tokenizer,
    VisionFeatures,
)
from x2kit.plugin.tasks import Texts
from x2kit.training.step.losses import step_losses
from x2kit.training.step.plan import Active, Negatives

Shape = tuple[int, ...]
META = torch.device("meta")
BYTES = 4
"""Per parameter, gradient and each of AdamW's two averages, which are float32 at every precision."""
BACKWARD = 2
"""Operations of the backward pass per operation of the forward pass: gradients of inputs and of weights."""


def count_operations() -> FlopCounterMode:
    """Count the floating-point operations of a block: matrix products, convolutions and attention.

    The result is `get_total_flops()`. torch's counter alone ignores the attention kernel of CPUs.
    """
    aten = torch.ops.aten
    cpu_attention = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    return FlopCounterMode(display=False, custom_mapping=cpu_attention)


def _attention_forward(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Count scores and weighted values; [B, H, L, D] each."""
    return _token_pairs(query, key) * 2 * (query[-1] + value[-1])


def _attention_backward(gradient: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Count recomputed scores, and gradients of scores, values, queries and keys."""
    return _token_pairs(query, key) * 2 * (3 * query[-1] + 2 * value[-1])


def _token_pairs(query: Shape, key: Shape) -> int:
    batch, heads, length, _ = query
    return batch * heads * length * key[-2]


def images_of(stream: StreamConfig) -> int:
    """Count the images and frames that a step encodes for a stream, without those shared with another stream."""
    if stream.layout is None:
        return stream.batch_size * _places(stream.task)[1]
    if stream.image_stream is not None or not stream.has_images:
        return 0
    return stream.records_a_step * (stream.frames if stream.has_videos else 1)


def tokens_of(stream: StreamConfig) -> int:
    """Count the tokens of a stream's texts in a step, each of `max_tokens`."""
    texts = _places(stream.task)[0] if stream.layout is None else 2 if stream.layout == "parallel" else 1
    return stream.batch_size * stream.max_tokens * texts


def _places(task: TaskConfig) -> tuple[int, int]:
    """Count the texts and the images of a row."""
    return len({text for text, _ in task.pairs}), task.drawn_images


def meta_batch(image: ImageSpec, data: DataConfig) -> Batch:
    """Build a full batch on the meta device, every text of `max_tokens` tokens."""
    streams = data.streams
    num_images = sum(map(images_of, streams.values()))
    shape = (num_images, image.channels, image.size, image.size)
    images = torch.empty(shape, device=META) if num_images else None
    videos = [stream for stream in streams.values() if stream.has_videos]
    frames = tuple(stream.frames for stream in videos for _ in range(stream.records_a_step))
    return Batch(0, images, {name: _rows(stream) for name, stream in streams.items()}, {}, [], videos=frames)


def meta_negatives(batch: Batch) -> dict[str, Negatives]:
    """Build hard negatives of the fused rows of each stream of pairs."""
    return {
        name: Negatives(_ids(len(rows.group[: rows.fused])), _ids(len(rows.group[: rows.fused])))
        for name, rows in batch.streams.items()
        if not isinstance(rows, TextRows | TaskRows)
    }


class _FusionOnly(Task):
    """A task whose loss is the mean of its fused states: its costs without those of its head."""

    def draw(self, record: Record, reader: Reader) -> TaskRow:
        raise NotImplementedError

    def choose_images(
        self, model: X2VLM, features: VisionFeatures, images: Tensor, targets: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Repeat the images of the rows for all places of the pairs."""
        named = (image if isinstance(image, tuple) else (image,) for _, image in self.config.pairs)
        places = 1 + max(place for several in named for place in several)
        return images[:, [place % images.shape[1] for place in range(places)]], targets

    def loss(
        self, model: X2VLM, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the mean of the states that the task reads for each of its losses."""
        read = [each.states[:, :1] if self.config.pooled else each.states for each in fused]
        mean = torch.cat([states.flatten() for states in read]).float().mean()
        return dict.fromkeys(self.config.losses, mean)

    def predict(
        self, model: X2VLM, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> Sequence[Any]:
        raise NotImplementedError

    def measure(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        raise NotImplementedError


def meta_tasks(data: DataConfig) -> dict[str, Task]:
    """Build the tasks that compute their own losses, without their heads."""
    return {name: _FusionOnly(stream.task) for name, stream in data.streams.items() if stream.layout is None}


def _rows(stream: StreamConfig) -> Rows:
    if stream.layout is None:
        texts, images = _places(stream.task)
        return TaskRows(_ids(stream.batch_size, images), (_texts(stream),) * texts, {})
    count, group = stream.batch_size, _ids(stream.batch_size)
    fused = count if stream.fusion_rows is None else min(count, stream.fusion_rows)
    masking = stream.masking
    masks = min(masking.max_masks, max(1, round(masking.mask_prob * stream.max_tokens)))
    masked = MaskedTexts(_ids(fused, stream.max_tokens), _ids(fused, masks), _ids(fused, masks))
    if stream.layout == "texts":
        return TextRows(_texts(stream), masked)
    if stream.layout == "parallel":
        return ParallelRows(_texts(stream), _texts(stream), masked, group, stream.fusion_rows)
    regions = None
    if stream.layout == "boxes":
        whole = torch.empty(count, dtype=torch.bool, device=META)
        regions = Regions(torch.empty(count, 4, device=META), whole)
    return PairedRows(_ids(count), _texts(stream), masked, group, regions, stream.fusion_rows)


def _texts(stream: StreamConfig) -> Texts:
    ids = _ids(stream.batch_size, stream.max_tokens)
    return Texts(ids, torch.empty(ids.shape, dtype=torch.bool, device=META))


def _meta_features(model: X2VLM, images: int) -> VisionFeatures:
    """Build cached features, which a step reads in place of images."""
    rows, columns = model.vision.grid
    patches = torch.empty(images, rows * columns, model.vision.width, device=META)
    return VisionFeatures(patches[:, 0], patches, model.vision.grid)


def _ids(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.int64, device=META)


class StepCosts(NamedTuple):
    """One step of the global batch.

    Attributes:
        flops: floating-point operations, forward and backward.
        activations: bytes kept for the backward pass, in float32.
    """

    flops: int
    activations: int


def meta_model(config: ModelConfig, data: DataConfig) -> X2VLM:
    """Build the model of a recipe on the meta device.

    Pretrained weights are read, as their sizes are in the files, and a tokenizer that the run would train is trained;
    without texts, or if their files are missing, the vocabulary has its largest size.

    Raises: X2KitError if a file cannot be read or a setting is invalid.
    """
    if any(getattr(part, "pretrained", None) for part in (config.vision, config.text, config.fusion)):
        return build_model(config, training_texts(data)).to("meta").eval()
    try:
        tokenizer = config.text.official_tokenizer(None)
    except SettingError:  # only official encoders have ids without a tokenizer
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
    except (MissingFileError, FileMissing):
        if largest is None:
            raise
        return largest


def parameter_count(model: X2VLM) -> int:
    """Count parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def step_costs(model: X2VLM, image: ImageSpec, data: DataConfig, active: Active) -> StepCosts:
    """Count operations and activations of one step.

    Frozen parts have no backward pass where no gradient goes through them, and otherwise none of their weights.

    Args:
        model: on the meta device, its parts frozen as in the run.
        image: input of the vision encoder.
        data: at least one stream.
        active: losses that are on, by stream.
    """
    batch = meta_batch(image, data)
    if data.feature_cache is not None and batch.images is not None:
        batch = batch._replace(images=None, features=_meta_features(model, len(batch.images)))
    kept: dict[int, Tensor] = {}
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in weights:
            kept[storage] = tensor  # the reference also prevents reuse of the storage's address
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with FusedAttention(), hooks, count_operations() as counter, _by_encoder(model, counter) as parts:
        step_losses(model, batch, active, meta_negatives(batch), tasks=meta_tasks(data))
    activations = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    saved = sum(round(parts[part] * _share_without_backward(model, part)) for part in ENCODERS)
    return StepCosts((1 + BACKWARD) * counter.get_total_flops() - saved, activations)


@contextmanager
def _by_encoder(model: X2VLM, counter: FlopCounterMode) -> Iterator[dict[str, int]]:
    """Count the operations of each encoder's forward pass."""
    found: dict[str, int] = dict.fromkeys(ENCODERS, 0)
    starts = dict(found)

    def begin(part: str) -> Callable[..., None]:
        return lambda *_: starts.update({part: counter.get_total_flops()})

    def end(part: str) -> Callable[..., None]:
        return lambda *_: found.update({part: found[part] + counter.get_total_flops() - starts[part]})

    handles = [
        handle
        for part in ENCODERS
        for handle in (
            getattr(model, part).register_forward_pre_hook(begin(part)),
            getattr(model, part).register_forward_hook(end(part)),
        )
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _share_without_backward(model: X2VLM, part: str) -> float:
    """Return the operations of an encoder's backward pass that freezing saves, per operation of its forward pass.

    The gradient of the weights is saved in every frozen matrix, that of the inputs in those before the first trained
    parameter; all matrices are taken to see equally many tokens.
    """
    encoder = getattr(model, part)
    if part in model.frozen:
        return BACKWARD if part != "fusion" or {"vision", "text"} <= model.frozen else BACKWARD / 2
    through = part == "fusion" and not {"vision", "text"} <= model.frozen
    saved = whole = 0.0
    for module in encoder.modules():
        own = list(module.parameters(recurse=False))
        through = through or any(parameter.requires_grad for parameter in own)
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            frozen = not module.weight.requires_grad
            whole += module.weight.numel()
            saved += module.weight.numel() * frozen * (BACKWARD / 2 if through else BACKWARD)
    return saved / whole if whole else 0.0


def phase_costs(model: X2VLM, data: DataConfig, phases: Sequence[Phase]) -> list[int]:
    """Count the operations of a step in each phase of a run.

    Objectives of plugins, and streams without a loss in a phase, are not counted.

    Args:
        model: on any device, as built; it is not changed and its weights are not copied.
        data: the streams.
        phases: of the run.
    """
    meta = meta_copy(model)
    return [
        step_costs(meta, model.image_spec, _active_streams(data, phase), phase.losses).flops
        for phase in phases
    ]


def meta_copy(model: X2VLM) -> X2VLM:
    """Copy the modules with meta tensors; the tokenizer is shared."""
    tokenizer = model.text.tokenizer
    memo: dict[int, Any] = {id(tokenizer): tokenizer}
    for parameter in model.parameters():
        memo[id(parameter)] = torch.nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.to("meta")
    return deepcopy(model, memo).eval()


def _active_streams(data: DataConfig, phase: Phase) -> DataConfig:
    streams = {
        name: stream for name, stream in data.streams.items() if phase.losses[name] or phase.objectives[name]
    }
    return data.model_copy(update={"streams": streams})


class FusedAttention(TorchFunctionMode):
    """Replace attention by a fused one, as on accelerators, which keeps no weights of token pairs."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        named = dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {})
        return _Attention.apply(named["query"], named["key"], named["value"])  # type: ignore[no-untyped-call]


class _Attention(torch.autograd.Function):
    """Multiply queries, keys and values [B, H, L, D] without softmax; forward only."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = query @ key.transpose(-2, -1) @ value
        ctx.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise NotImplementedError("step_costs runs the forward pass alone")

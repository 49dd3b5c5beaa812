"""Derive a model's settings from the keys and shapes of an official checkpoint. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from x2kit.errors import WeightsError
from x2kit.interop.account import some
from x2kit.interop.layout import DECODER, LAYER, VISION, Layout
from x2kit.model.config import HeadName, HeadsConfig, ModelConfig
from x2kit.plugin.components import Kind
from x2kit.plugin.registry import Registry
from x2kit.plugin.toolkit.official_keys import Shapes, count

if TYPE_CHECKING:
    from torch import Tensor

_LAYER = re.compile(re.escape(LAYER) + r"(\d+)\.(.+)")
HEADS: dict[HeadName, str] = {
    "itc": "vision_proj.",
    "itm": "itm_head.",
    "mlm": "predictions.transform.",
    "bbox": "bbox_head.",
}
MLM_EPS = 1e-5
"""Epsilon of the masked-language head's norm beside separate encoders; in a stack it is that of the layers."""


def model_of(
    shapes: Shapes, layout: Layout, registry: Registry, source: str, tied: bool, heads: int | None = None
) -> ModelConfig:
    """Derive the settings of a checkpoint's model.

    Args:
        shapes: of all tensors.
        layout: see `recognise`.
        registry: components to match with the encoders.
        source: the checkpoint, for messages.
        tied: whether masked-language head and word embedding have equal values.
        heads: attention heads of text and fusion encoder, if their width is not 64.
    Raises: WeightsError if no component matches one of the encoders.
    """
    vision = _ask(registry, "vision", _under(shapes, VISION), source)
    others = heads or _whole(getattr(vision, "heads", None))
    text_shapes, fusion_shapes = _split(shapes, layout)
    text = _ask(registry, "text", text_shapes, source, layout.stacked, heads=others)
    fusion = _ask(registry, "fusion", fusion_shapes, source, heads=others)
    settings = _heads(shapes, layout, tied, source)
    # of X-VLM's code only captioning reads texts with the library's tokenizer, which adds an end token
    if not vision.official_end_token and settings["built"] != ("mlm",):
        text = text.without_end_token()
    try:
        if heads is not None:
            text, fusion = (_changed(part, heads=heads) for part in (text, fusion))
        eps = getattr(text, "layer_norm_eps", None) if layout.stacked else None
        if eps is not None:  # one configuration for all layers of a stack
            settings["mlm_layer_norm_eps"] = eps
            if "layer_norm_eps" in type(fusion).model_fields:
                fusion = _changed(fusion, layer_norm_eps=eps)
        return ModelConfig(vision=vision, text=text, fusion=fusion, heads=HeadsConfig(**settings))
    except ValidationError as error:
        raise WeightsError(f"{source}: {_message(error)}") from error


def first_fusion_layer(shapes: Shapes, layout: Layout) -> int:
    """Find the number of the first fusion layer in the stack; 0 for a separate fusion encoder."""
    if not layout.stacked:
        return 0
    numbers = (
        int(found[1])
        for name in _under(shapes, layout.text)
        if (found := _LAYER.fullmatch(name)) and found[2].startswith("crossattention.")
    )
    return min(numbers, default=0)


def shared_keys(tensors: Mapping[str, Tensor], layout: Layout) -> set[str]:
    """List matrices of keys and values that equal those of the layer before, as in X-VLM's doubled layers."""
    own = re.compile(re.escape(layout.fusion) + r"(\d+)(\.crossattention\.self\.(?:key|value)\.weight)")
    return {
        name
        for name, value in tensors.items()
        if (found := own.fullmatch(name))
        and (before := tensors.get(f"{layout.fusion}{int(found[1]) - 1}{found[2]}")) is not None
        and value.equal(before)
    }


def _split(shapes: Shapes, layout: Layout) -> tuple[Shapes, Shapes]:
    first = first_fusion_layer(shapes, layout)
    text: dict[str, tuple[int, ...]] = {}
    fusion: dict[str, tuple[int, ...]] = {}
    for name, shape in _under(shapes, layout.text).items():
        found = _LAYER.fullmatch(name)
        if layout.stacked and found and int(found[1]) >= first:
            fusion[f"{int(found[1]) - first}.{found[2]}"] = shape
        else:
            text[name] = shape
    return text, fusion if layout.stacked else _under(shapes, layout.fusion)


def _heads(shapes: Shapes, layout: Layout, tied: bool, source: str) -> dict[str, Any]:
    def length(name: str, dimension: int) -> int:
        shape = shapes.get(name)
        if shape is None:
            raise WeightsError(f"{source}: missing: {name}")
        if len(shape) <= dimension or shape[dimension] == 0:
            raise WeightsError(f"{source}: {name} {list(shape)}: dimension {dimension + 1} is missing or 0")
        return shape[dimension]

    prefixes = {**HEADS, "mlm": f"{layout.mlm}{HEADS['mlm']}"}
    settings: dict[str, Any] = {
        "built": tuple(
            head for head, prefix in prefixes.items() if any(name.startswith(prefix) for name in shapes)
        ),
        "tie_mlm": tied,
        "mlm_layer_norm_eps": MLM_EPS,
        "decoder_layers": count(shapes, f"{DECODER}bert.{LAYER}{{n}}.") or None,
    }
    if "vision_proj.weight" in shapes:
        settings["embed_dim"] = length("vision_proj.weight", 0)
    if "absolute_frame_pos_embed" in shapes:
        settings["frames"] = length("absolute_frame_pos_embed", 1)
    if "cls_head.3.weight" in shapes:
        width = length(
            f"{layout.fusion}{first_fusion_layer(shapes, layout)}.crossattention.self.query.weight", 0
        )
        settings["answers"] = length("cls_head.3.weight", 0)
        settings["answer_images"] = length("cls_head.0.weight", 1) // width
    return settings


class _TrackedShapes(Mapping[str, tuple[int, ...]]):
    """Shapes that record which keys were read, and which were absent."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self.found: dict[str, tuple[int, ...]] = {}
        self.absent: dict[str, None] = {}

    def __getitem__(self, name: str) -> tuple[int, ...]:
        if name not in self._shapes:
            self.absent[name] = None
        self.found[name] = self._shapes[name]
        return self.found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def _changed(part: Any, **settings: Any) -> Any:
    """Return the settings of a component with some of them changed."""
    return part.model_validate({**part.model_dump(), **settings})


def _ask(
    registry: Registry, kind: Kind, shapes: Shapes, source: str, stacked: bool | None = None, **known: Any
) -> Any:
    """Return the settings from the first component of a kind that matches these tensors.

    Args:
        stacked: whether the layers are in one stack with those of fusion; see `TextEncoderConfig.official_stack`.
    """
    answers = []
    for entry in registry:
        component: Any = entry.component
        if component.kind != kind or (
            stacked is not None and component.official_stack not in (None, stacked)
        ):
            continue
        tracked, name = _TrackedShapes(shapes), component.component_name()
        try:
            found = component.from_official(tracked, **known)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # Components assume the shapes of intact checkpoints.
            at = some([f"{tensor} {list(shape)}" for tensor, shape in tracked.found.items()])
            raise WeightsError(
                f"{source}: {name} cannot derive its settings from the {kind} encoder's shapes: {_message(error)}\n"
                f"  read: {at}"
            ) from error
        if found is not None:
            return found
        if tracked.absent or tracked.found:
            missing = some(list(tracked.absent)) if tracked.absent else "nothing, but sizes differ"
            answers.append(f"\n  missing for {name}: {missing}")
    raise WeightsError(
        f"{source}: no {kind} component matches its {kind} encoder, which has {some(sorted(shapes), 4) or 'no tensor'}"
        + "".join(answers)
    )


def _message(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_url=False)
        )
    return f"{type(error).__name__}: {error}"


def _under(shapes: Shapes, prefix: str) -> Shapes:
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None

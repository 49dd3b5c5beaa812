"""From the names and shapes of an official checkpoint to the settings of a model. Imports no torch."""

from __future__ import annotations

from typing import Any, TypeVar

from x2kit.errors import WeightsError
from x2kit.interop.layout import DECODER, LAYER, VISION, Layout
from x2kit.model.config import HeadName, HeadsConfig, ModelConfig
from x2kit.plugin.components import (
    ComponentConfig,
    FusionEncoderConfig,
    Kind,
    TextEncoderConfig,
    VisionEncoderConfig,
)
from x2kit.plugin.official import Shapes, count
from x2kit.plugin.registry import Registry

C = TypeVar("C", bound=ComponentConfig)
HEADS: dict[HeadName, str] = {
    "itc": "vision_proj.",
    "itm": "itm_head.",
    "mlm": "predictions.transform.",
    "bbox": "bbox_head.",
}
MLM_EPS = {True: 1e-12, False: 1e-5}
"""Epsilon of the masked-language head's norm: BERT's where it is in the stack, CCLM's own beside it."""


def model_of(
    shapes: Shapes, layout: Layout, registry: Registry, source: str, tied: bool, heads: int | None = None
) -> ModelConfig:
    """The settings of a checkpoint's model.

    Args:
        shapes: of all its tensors.
        layout: see `recognise`.
        registry: the components that are asked whether an encoder is theirs.
        source: for messages.
        tied: the masked-language head has the word embedding's values.
        heads: attention heads of text and fusion encoder, where they are not 64 wide each.
    Raises: WeightsError if no component reads one of the encoders.
    """
    vision = _ask(registry, "vision", VisionEncoderConfig, _under(shapes, VISION), source)
    others = heads or _whole(getattr(vision, "heads", None))
    text_shapes, fusion_shapes = _split(shapes, layout)
    text = _ask(registry, "text", TextEncoderConfig, text_shapes, source, heads=others)
    fusion = _ask(registry, "fusion", FusionEncoderConfig, fusion_shapes, source, heads=others)
    if heads is not None:
        text, fusion = (part.model_validate({**part.model_dump(), "heads": heads}) for part in (text, fusion))
    return ModelConfig(vision=vision, text=text, fusion=fusion, heads=_heads(shapes, layout, tied))


def first_fusion_layer(shapes: Shapes, layout: Layout) -> int:
    """Number of the first layer of the fusion encoder in its stack."""
    if not layout.stacked:
        return 0
    prefix = layout.fusion
    return min(
        (
            int(name.removeprefix(prefix).partition(".")[0])
            for name in shapes
            if name.startswith(prefix) and ".crossattention." in name
        ),
        default=0,
    )


def _split(shapes: Shapes, layout: Layout) -> tuple[Shapes, Shapes]:
    first = first_fusion_layer(shapes, layout)
    text: dict[str, tuple[int, ...]] = {}
    fusion: dict[str, tuple[int, ...]] = {}
    for name, shape in _under(shapes, layout.text).items():
        number, _, rest = name.removeprefix(LAYER).partition(".")
        if layout.stacked and name.startswith(LAYER) and int(number) >= first:
            fusion[f"{int(number) - first}.{rest}"] = shape
        else:
            text[name] = shape
    return text, fusion if layout.stacked else _under(shapes, layout.fusion)


def _heads(shapes: Shapes, layout: Layout, tied: bool) -> HeadsConfig:
    fusion_width = next(
        (shape[0] for name, shape in shapes.items() if name.endswith("crossattention.self.query.weight")), 0
    )
    prefixes = {**HEADS, "mlm": f"{layout.mlm}{HEADS['mlm']}"}
    settings: dict[str, Any] = {
        "built": tuple(
            head for head, prefix in prefixes.items() if any(name.startswith(prefix) for name in shapes)
        ),
        "tie_mlm": tied,
        "mlm_layer_norm_eps": MLM_EPS[layout.stacked],
        "decoder_layers": count(shapes, f"{DECODER}bert.{LAYER}{{n}}.") or None,
    }
    if "vision_proj.weight" in shapes:
        settings["embed_dim"] = shapes["vision_proj.weight"][0]
    if "absolute_frame_pos_embed" in shapes:
        settings["frames"] = shapes["absolute_frame_pos_embed"][1]
    if "cls_head.3.weight" in shapes:
        settings["answers"] = shapes["cls_head.3.weight"][0]
        settings["answer_pictures"] = shapes["cls_head.0.weight"][1] // fusion_width
    return HeadsConfig(**settings)


def _ask(registry: Registry, kind: Kind, base: type[C], shapes: Shapes, source: str, **known: Any) -> C:
    asked = []
    for entry in registry:
        component = entry.component
        if entry.component.kind != kind or not issubclass(component, base):
            continue
        asked.append(component.component_name())
        found: C | None = component.from_official(shapes, **known)  # type: ignore[attr-defined]
        if found is not None:
            return found
    raise WeightsError(
        f"{source}: no {kind} component reads its {kind} encoder; asked: {', '.join(asked) or 'none'}\n"
        f"  it has: {', '.join(sorted(shapes)[:4]) or 'no tensor'}"
    )


def _under(shapes: Shapes, prefix: str) -> Shapes:
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None

"""Every tensor of a model and its official name. Imports torch."""

from __future__ import annotations

from torch import Tensor

from x2kit.interop.layout import DECODER, VISION, Layout
from x2kit.model import X2VLM


def official_names(model: X2VLM, layout: Layout, first_layer: int) -> dict[str, tuple[str, ...]]:
    """Own tensor names to the official ones, several where an own tensor is official ones above each other.

    Args:
        model: any X2VLM; on the meta device will do.
        layout: of the checkpoint.
        first_layer: number of the first fusion layer in its stack, 0 where it has one of its own.
    Raises: WeightsError if an encoder is in no official checkpoint.
    """
    names: dict[str, tuple[str, ...]] = {}
    parts = {"vision": VISION, "text": layout.text, "fusion": layout.fusion, "decoder": DECODER}
    for part, prefix in parts.items():
        if hasattr(model, part):
            found = getattr(model, part).official_names(first_layer if part == "fusion" else 0)
            names |= {
                f"{part}.{own}": tuple(prefix + name for name in wanted) for own, wanted in found.items()
            }
    heads = layout.heads()
    return names | {own: heads.official(own) for own in model.state_dict() if own not in names}


def official_buffers(model: X2VLM, layout: Layout) -> dict[str, Tensor]:
    """What official checkpoints hold besides, by official name, as the settings tell it."""
    found: dict[str, Tensor] = {}
    parts = {"vision": VISION, "text": layout.text, "fusion": layout.fusion, "decoder": DECODER}
    for part, prefix in parts.items():
        if hasattr(model, part):
            buffers = getattr(model, part).official_buffers()
            found |= {prefix + name: value for name, value in buffers.items()}
    return found

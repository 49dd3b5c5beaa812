"""Layouts of official checkpoints: prefixes and tensor names of each component. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from x2kit.errors import WeightsError
from x2kit.plugin.toolkit.official_keys import NameTable

if TYPE_CHECKING:
    from torch import Tensor

    from x2kit.model import X2VLM
    from x2kit.plugin.encoders import Encoder

VISION = "vision_encoder."
STACKED_TEXT, PLAIN_TEXT = "text_encoder.bert.", "text_encoder."
LAYER = "encoder.layer."
CROSS = f"cross_encoder.{LAYER}"
DECODER = "text_decoder."
MLM_OF_STACK, MLM_SEPARATE = "text_encoder.cls.", "mlm_head."


@dataclass(frozen=True)
class Layout:
    """Prefixes of the parts of a checkpoint.

    Attributes:
        text: prefix of the text encoder's names.
        stacked: text and fusion layers are one numbered stack (X²-VLM, X-VLM), not two (CCLM).
        mlm: prefix of the masked-language head's names.
    """

    text: str
    stacked: bool
    mlm: str

    @property
    def fusion(self) -> str:
        """Prefix of the fusion layers' names, up to their number."""
        return f"{self.text}{LAYER}" if self.stacked else CROSS

    def describe(self) -> str:
        """Describe the layout in one line."""
        if not self.stacked:
            return "CCLM: separate text encoder and cross encoder"
        kept = "as pretrained" if self.text == STACKED_TEXT else "fine-tuned, without bert. in its names"
        return f"X²-VLM or X-VLM: text and fusion layers in one stack, {kept}"

    def heads(self) -> NameTable:
        """Map tensors outside the encoders to official names."""
        head = f"{self.mlm}predictions"
        return NameTable(
            [
                ("temperature", "temp"),
                ("text_temperature", "temp"),
                ("vision_proj.{leaf}", "vision_proj.{leaf}"),
                ("text_proj.{leaf}", "text_proj.{leaf}"),
                ("itm_head.{rest}", "itm_head.{rest}"),
                ("bbox_head.{rest}", "bbox_head.{rest}"),
                ("answer_head.{rest}", "cls_head.{rest}"),
                ("extra_heads.assignment.{leaf}", "ta_head.{leaf}"),
                ("frame_positions", "absolute_frame_pos_embed"),
                ("mlm_head.dense.{leaf}", f"{head}.transform.dense.{{leaf}}"),
                ("mlm_head.norm.{leaf}", f"{head}.transform.LayerNorm.{{leaf}}"),
                ("mlm_head.decoder.{leaf}", f"{head}.decoder.{{leaf}}"),
            ]
        )

    def twins(self, names: Iterable[str]) -> dict[str, str]:
        """Map duplicate keys of the official code to the key that is read."""
        return {
            name: f"{name.removesuffix('.bias')}.decoder.bias"
            for name in names
            if name.endswith("predictions.bias")
        }


def recognise(names: Iterable[str], source: str) -> Layout:
    """Detect the layout of a checkpoint from its keys. Raises WeightsError if it is not an official one."""
    names = list(names)

    def any_with(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in names)

    absent = [prefix for prefix in (VISION, PLAIN_TEXT) if not any_with(prefix)]
    if absent:
        shown = ", ".join(sorted({name.partition(".")[0] for name in names})[:8]) or "nothing"
        raise WeightsError(
            f"{source}: not an official checkpoint of X²-VLM, CCLM or X-VLM: no key begins with "
            f"{' or '.join(absent)}\n  found: {shown}"
        )
    stacked = not any_with(CROSS)
    text = STACKED_TEXT if any_with(STACKED_TEXT) else PLAIN_TEXT
    return Layout(text, stacked, MLM_OF_STACK if stacked else MLM_SEPARATE)


def official_names(model: X2VLM, layout: Layout, first_layer: int) -> dict[str, tuple[str, ...]]:
    """Map a model's tensor names to official ones; several if an own tensor concatenates official ones.

    Args:
        model: any X2VLM, also on the meta device.
        layout: of the checkpoint.
        first_layer: number of the first fusion layer in the stack; 0 for a separate fusion encoder.
    Raises: WeightsError for an encoder without official checkpoint.
    """
    names: dict[str, tuple[str, ...]] = {}
    for part, prefix, encoder in _encoders(model, layout):
        for own, official in encoder.official_names(first_layer if part == "fusion" else 0).items():
            names[f"{part}.{own}"] = tuple(prefix + name for name in official)
    heads = layout.heads()
    return names | {own: heads.official(own) for own in model.state_dict() if own not in names}


def official_buffers(model: X2VLM, layout: Layout) -> dict[str, Tensor]:
    """Compute the buffers of official checkpoints that follow from the settings, by official name."""
    return {
        prefix + name: value
        for _, prefix, encoder in _encoders(model, layout)
        for name, value in encoder.official_buffers().items()
    }


def _encoders(model: X2VLM, layout: Layout) -> list[tuple[str, str, Encoder]]:
    parts = {"vision": VISION, "text": layout.text, "fusion": layout.fusion, "decoder": DECODER}
    return [(part, prefix, getattr(model, part)) for part, prefix in parts.items() if hasattr(model, part)]

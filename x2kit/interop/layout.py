"""Layouts of official checkpoints: which prefix each component's names have. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from x2kit.errors import WeightsError
from x2kit.plugin.toolkit.official_keys import NameTable

VISION = "vision_encoder."
STACKED_TEXT, PLAIN_TEXT = "text_encoder.bert.", "text_encoder."
LAYER = "encoder.layer."
CROSS = f"cross_encoder.{LAYER}"
DECODER = "text_decoder."
MLM_OF_STACK, MLM_APART = "text_encoder.cls.", "mlm_head."


@dataclass(frozen=True)
class Layout:
    """Where the parts of a checkpoint are.

    Attributes:
        text: prefix of the text encoder's names.
        stacked: text and fusion layers are one stack, numbered through (X²-VLM, X-VLM), not two (CCLM).
        mlm: prefix of the masked-language head's names.
    """

    text: str
    stacked: bool
    mlm: str

    @property
    def fusion(self) -> str:
        """Prefix of the fusion layers' names, before their number."""
        return f"{self.text}{LAYER}" if self.stacked else CROSS

    def describe(self) -> str:
        """For people."""
        if not self.stacked:
            return "CCLM: text encoder and cross encoder apart"
        kept = "as pretrained" if self.text == STACKED_TEXT else "fine-tuned, without bert. in its names"
        return f"X²-VLM or X-VLM: text and fusion layers in one stack, {kept}"

    def heads(self) -> NameTable:
        """Official names of what is not in an encoder."""
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
                ("frame_positions", "absolute_frame_pos_embed"),
                ("mlm_head.dense.{leaf}", f"{head}.transform.dense.{{leaf}}"),
                ("mlm_head.norm.{leaf}", f"{head}.transform.LayerNorm.{{leaf}}"),
                ("mlm_head.decoder.{leaf}", f"{head}.decoder.{{leaf}}"),
            ]
        )

    def twins(self, names: Iterable[str]) -> dict[str, str]:
        """Names under which the official code lists a tensor once more: {twin: the one that is read}."""
        return {
            name: f"{name.removesuffix('.bias')}.decoder.bias"
            for name in names
            if name.endswith("predictions.bias")
        }


def recognise(names: Iterable[str], source: str) -> Layout:
    """The layout of a checkpoint with these names. Raises WeightsError if it is none of the official ones."""
    names = list(names)

    def any_with(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in names)

    absent = [prefix for prefix in (VISION, PLAIN_TEXT) if not any_with(prefix)]
    if absent:
        shown = ", ".join(sorted({name.partition(".")[0] for name in names})[:8]) or "nothing"
        raise WeightsError(
            f"{source}: not an official checkpoint of X²-VLM, CCLM or X-VLM: no name begins with "
            f"{' or '.join(absent)}\n  it has: {shown}"
        )
    stacked = not any_with(CROSS)
    text = STACKED_TEXT if any_with(STACKED_TEXT) else PLAIN_TEXT
    return Layout(text, stacked, MLM_OF_STACK if stacked else MLM_APART)

"""From settings to a model. Imports torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from x2kit.model.config import ModelConfig
from x2kit.model.x2vlm import X2VLM

TOKENIZER, VISION, TEXT, FUSION = "tokenizer", "vision", "text", "fusion"


def build_model(config: ModelConfig, texts: Iterable[str] | None = None, assets: Path | None = None) -> X2VLM:
    """The model of a recipe.

    Args:
        config: the recipe's `model`.
        texts: the run's own texts, for a tokenizer that is trained on them.
        assets: a weights directory; when given, tokenizer and architecture are read from it and no pretrained
            weights are, since saved ones are about to be loaded.
    Raises: SettingError or WeightsError, with what the encoder found wrong; ShapeError for heads that do not fit.
    """

    def part(name: str) -> Path | None:
        return None if assets is None else assets / name

    tokenizer = config.text.build_tokenizer(texts, part(TOKENIZER))
    vision = config.vision.build(part(VISION))
    text = config.text.build(tokenizer, part(TEXT))
    fusion = config.fusion.build(text.width, vision.width, part(FUSION))
    return X2VLM(vision, text, fusion, config.heads)

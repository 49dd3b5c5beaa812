"""From settings to a model. Imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from x2kit.model.config import ModelConfig
from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.tokenizers import Tokenizer

TOKENIZER, VISION, TEXT, FUSION = "tokenizer", "vision", "text", "fusion"


def build_model(
    config: ModelConfig,
    texts: Iterable[str] | None = None,
    assets: Path | None = None,
    tokenizer: Tokenizer | None = None,
) -> X2VLM:
    """The model of a recipe.

    Args:
        config: the recipe's `model`.
        texts: the run's own texts, for a tokenizer that is trained on them.
        assets: a weights directory; when given, tokenizer and architecture are read from it and no pretrained
            weights are, since saved ones are about to be loaded.
        tokenizer: used instead of the one that the settings name.
    Raises: SettingError or WeightsError, with what the encoder found wrong; ShapeError for heads that do not fit.
    """

    def part(name: str) -> Path | None:
        return None if assets is None else assets / name

    if tokenizer is None:
        tokenizer = config.text.build_tokenizer(texts, part(TOKENIZER))
    vision = config.vision.build(part(VISION))
    text = config.text.build(tokenizer, part(TEXT))
    fusion = config.fusion.build(text.width, vision.width, part(FUSION))
    layers = config.heads.decoder_layers
    decoder = None if layers is None else config.text.build_decoder(tokenizer, layers, part(TEXT))
    return X2VLM(vision, text, fusion, config.heads, decoder)


class _Untouched(TorchFunctionMode):
    """Random and constant fills return the tensor as it is."""

    FILLS = frozenset(
        [
            Tensor.normal_,
            Tensor.uniform_,
            Tensor.erfinv_,
            nn.init.normal_,
            nn.init.uniform_,
            nn.init.kaiming_uniform_,
        ]
    )

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self.FILLS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def without_initialisation() -> Iterator[None]:
    """Build without drawing initial weights, for a model whose weights are about to be loaded: seconds, not minutes.

    What follows from the settings (index tables, position ids) is made all the same.
    """
    with _Untouched():
        yield

"""From settings to a model. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from x2kit.model.config import ModelConfig
from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.components import ComponentConfig
from x2kit.plugin.encoders import Encoder
from x2kit.plugin.tokenizers import Tokenizer
from x2kit.plugin.toolkit.weights import load_exactly

E = TypeVar("E", bound=Encoder)
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
    Raises: SettingError or WeightsError, with what the encoder found wrong; ShapeError for heads that do not fit;
        PluginError for an error in the code of an encoder.
    """

    def part(name: str) -> Path | None:
        return None if assets is None else assets / name

    if tokenizer is None:
        with component_faults(config.text):
            tokenizer = config.text.build_tokenizer(texts, part(TOKENIZER))
    words = tokenizer
    vision = _built(config.vision, lambda: config.vision.build(part(VISION)))
    text = _built(config.text, lambda: config.text.build(words, part(TEXT)))
    fusion = _built(config.fusion, lambda: config.fusion.build(text.width, vision.width, part(FUSION)))
    layers, decoder = config.heads.decoder_layers, None
    if layers is not None:
        decoder = _built(config.text, lambda: config.text.build_decoder(words, layers, part(TEXT)))
    model = X2VLM(vision, text, fusion, config.heads, decoder)
    if config.heads.mlm_pretrained and assets is None:
        _fill_mlm_head(model, config.text.pretrained_mlm_head())
    return model


def _built(component: ComponentConfig, build: Callable[[], E]) -> E:
    """Build an encoder that knows its settings, so that its errors name them."""
    with component_faults(component):
        encoder = build()
    encoder.built_from = component
    return encoder


def _fill_mlm_head(model: X2VLM, weights: dict[str, Tensor]) -> None:
    """Begin the masked-language head with a pretrained one; a shared word embedding is the encoder's already."""
    head, embedding = model.mlm_head, model.text.token_embedding()
    ids = head.decoder.out_features
    weights = {  # published matrices may have rows for ids that no tokenizer gives
        name: value[:ids] if name.startswith("decoder.") else value for name, value in weights.items()
    }
    if embedding is not None and head.decoder.weight is embedding.weight:
        weights = {**weights, "decoder.weight": head.decoder.weight.detach()}
    load_exactly(head, weights, "model.heads.mlm_pretrained")
    model.kept = frozenset(f"mlm_head.{name}" for name in weights)


class _Untouched(TorchFunctionMode):
    """Random and constant fills return the tensor as it is, draws of single steps zeros.

    Zeros, since `nn.init.trunc_normal_` draws until all values are in its range: what memory held may never be.
    """

    DRAWS = frozenset([Tensor.normal_, Tensor.uniform_])
    FILLS = frozenset(
        [
            Tensor.erfinv_,
            nn.init.normal_,
            nn.init.uniform_,
            nn.init.kaiming_uniform_,
        ]
    )

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self.DRAWS:
            return args[0].zero_()
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

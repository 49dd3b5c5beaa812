"""Build a model from its settings. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

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
P = ParamSpec("P")
TOKENIZER, VISION, TEXT, FUSION = "tokenizer", "vision", "text", "fusion"


def build_model(
    config: ModelConfig,
    texts: Iterable[str] | None = None,
    assets: Path | None = None,
    tokenizer: Tokenizer | None = None,
) -> X2VLM:
    """Build the model of a recipe.

    Args:
        config: the recipe's `model`.
        texts: training texts, for a tokenizer that is trained on them.
        assets: a weights directory. If given, tokenizer and architecture are read from it and pretrained weights are
            not, because the caller loads saved ones.
        tokenizer: replaces the one of the settings.
    Raises: SettingError or WeightsError from an encoder; ShapeError for heads that do not fit the encoders;
        PluginError for an exception in the code of an encoder.
    """

    def part(name: str) -> Path | None:
        return None if assets is None else assets / name

    if tokenizer is None:
        with component_faults(config.text):
            tokenizer = config.text.build_tokenizer(texts, part(TOKENIZER))
    vision = _build(config.vision, config.vision.build, part(VISION))
    text = _build(config.text, config.text.build, tokenizer, part(TEXT))
    fusion = _build(config.fusion, config.fusion.build, text.width, vision.width, part(FUSION))
    layers, decoder = config.heads.decoder_layers, None
    if layers is not None:
        decoder = _build(config.text, config.text.build_decoder, tokenizer, layers, part(TEXT))
    model = X2VLM(vision, text, fusion, config.heads, decoder)
    if config.heads.mlm_pretrained and assets is None:
        _fill_mlm_head(model, config.text.pretrained_mlm_head())
    return model


def _build(component: ComponentConfig, build: Callable[P, E], *args: P.args, **kwargs: P.kwargs) -> E:
    """Build an encoder and store its settings on it, so that later errors name them."""
    with component_faults(component):
        encoder = build(*args, **kwargs)
    encoder.built_from = component
    return encoder


def _fill_mlm_head(model: X2VLM, weights: dict[str, Tensor]) -> None:
    """Load a pretrained masked-language head; a tied word embedding keeps the encoder's values."""
    head, embedding = model.mlm_head, model.text.token_embedding()
    ids = head.decoder.out_features
    weights = {  # published matrices may have rows for ids that the tokenizer never emits
        name: value[:ids] if name.startswith("decoder.") else value for name, value in weights.items()
    }
    if embedding is not None and head.decoder.weight is embedding.weight:
        weights = {**weights, "decoder.weight": head.decoder.weight.detach()}
    load_exactly(head, weights, "model.heads.mlm_pretrained")
    model.kept = frozenset(f"mlm_head.{name}" for name in weights)


class _SkipInit(TorchFunctionMode):
    """Make initialisers return the tensor unchanged, and single draws return zeros.

    Zeros, because `nn.init.trunc_normal_` redraws until all values are in range, and uninitialised memory may not be.
    """

    DRAWS = frozenset([Tensor.normal_, Tensor.uniform_])
    FILLS = frozenset([Tensor.erfinv_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_])

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
    """Skip random initialisation of models built inside, whose weights are then loaded: seconds instead of minutes.

    Buffers computed from the settings (index tables, position ids) are still built.
    """
    with _SkipInit():
        yield

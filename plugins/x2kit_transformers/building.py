"""Text encoders of transformers: with random weights, as they were saved, or as they were published. Imports torch."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from x2kit.plugin import SettingError, Tokenizer, WeightsError
from x2kit.plugin.toolkit.weights import some
from x2kit_transformers.architecture import Summary
from x2kit_transformers.encoder import HuggingFaceEncoder
from x2kit_transformers.families import require_known
from x2kit_transformers.published import DROPOUT, key_of, longest_text

HEADS = (
    *("cls.", "lm_head.", "pooler.", "classifier.", "score.", "qa_outputs.", "vocab_", "generator_"),
    *("lm_predictions.", "mask_predictions.", "head.", "decoder."),
)
"""Beginnings of names in published files that belong to heads, which an encoder has no use for."""

LOADING_ERRORS = (OSError, ValueError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError)


@contextmanager
def _errors_only() -> Iterator[None]:
    """Keep the load report and progress bar of transformers out of the output; what they tell is checked here."""
    verbosity, shows_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shows_bars:
            logging.enable_progress_bar()


def fresh_encoder(
    settings: Mapping[str, Any], tokenizer: Tokenizer, max_length: int, summary: Summary
) -> HuggingFaceEncoder:
    """An encoder with random weights, of a configuration with its model_type.

    Raises: SettingError if transformers refuses the configuration.
    """
    try:
        config = AutoConfig.for_model(**settings)
        model = _empty(config)
    except (ValueError, TypeError, ImportError) as error:
        raise SettingError(
            "config", f'transformers builds no "{settings["model_type"]}" so: {error}'
        ) from error
    _words_before_places(model)
    return HuggingFaceEncoder(model, tokenizer, max_length, summary, from_scratch=True)


def empty_encoder(
    assets: Path, tokenizer: Tokenizer, max_length: int | None, summary: Summary
) -> HuggingFaceEncoder:
    """The architecture that `save_assets` described, with random weights.

    Raises: WeightsError if the directory does not hold its config.json.
    """
    try:
        config = AutoConfig.from_pretrained(assets, local_files_only=True, trust_remote_code=False)
    except LOADING_ERRORS as error:
        raise WeightsError(f"{assets}: no readable config.json of a text encoder: {error}") from error
    return HuggingFaceEncoder(
        _empty(config), tokenizer, _longest(config, max_length), summary, from_scratch=True
    )


def pretrained_encoder(
    pretrained: str,
    tokenizer: Tokenizer,
    max_length: int | None,
    summary: Summary,
    changes: Mapping[str, Any],
    dropout: float | None,
    layers: Sequence[int] | None = None,
) -> HuggingFaceEncoder:
    """An encoder with its published weights, in float32.

    Args:
        changes: keys of its configuration that shall be other than published.
        dropout: of hidden states and attention; None for the published rates.
        layers: numbers of the published layers that it takes; None for all.
    Raises: WeightsError if the files are damaged, lack a parameter, or hold more than heads beside; SettingError for
        changes that the model does not know, or layers that it cannot do without.
    """
    try:
        config = AutoConfig.from_pretrained(pretrained, trust_remote_code=False)
        _change(config, changes, dropout)
        with _errors_only():
            model, info = AutoModel.from_pretrained(
                pretrained,
                config=config,
                attn_implementation=_attention(config),
                dtype=torch.float32,
                output_loading_info=True,
                trust_remote_code=False,
                **_no_pooler(config),
            )
    except LOADING_ERRORS as error:
        raise WeightsError(f"{pretrained}: the text encoder's weights cannot be read: {error}") from error
    missing = sorted(info["missing_keys"])
    surplus = sorted(key for key in info["unexpected_keys"] if not _of_a_head(key, model.base_model_prefix))
    if missing or surplus:
        raise WeightsError(
            f"{pretrained}: does not fit {type(model).__name__}\n"
            f"  missing: {some(missing)}\n  left over: {some(surplus)}"
        )
    vocab = model.get_input_embeddings().num_embeddings
    if tokenizer.vocab_size > vocab:
        raise WeightsError(
            f"{pretrained}: the tokenizer has {tokenizer.vocab_size} ids, the word embedding {vocab}"
        )
    if layers is not None:
        _take_layers(model, layers)
    return HuggingFaceEncoder(model, tokenizer, _longest(config, max_length), summary, from_scratch=False)


def _change(config: PretrainedConfig, changes: Mapping[str, Any], dropout: float | None) -> None:
    require_known(changes, config)
    rates = {} if dropout is None else {key: dropout for key in DROPOUT if hasattr(config, key)}
    for key, value in {**rates, **changes}.items():
        setattr(config, key, value)


def _take_layers(model: PreTrainedModel, layers: Sequence[int]) -> None:
    """Leave a model these of its layers, in this order, and its configuration with them."""
    config = model.config
    key = key_of({name: getattr(config, name, None) for name in dir(config)}, "layers")
    count = getattr(config, key) if key else None
    stacks = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == count
    ]
    if key is None or len(stacks) != 1:
        raise SettingError("layers", f"{type(model).__name__} has no list of {count} layers; leave this out")
    parent, name = stacks[0]
    stack = getattr(parent, name)
    setattr(parent, name, nn.ModuleList(stack[number] for number in layers))
    for listed, value in vars(config).items():  # such as layer_types, one entry a layer
        if isinstance(value, list) and len(value) == count:
            setattr(config, listed, [value[number] for number in layers])
    setattr(config, key, len(layers))
    with torch.device("meta"):
        again = set(_empty(config).state_dict())
    if again != set(model.state_dict()):
        raise SettingError(
            "pretrained_layers",
            f"layers of {type(model).__name__} are not all alike, so these cannot stand in this order; "
            "take the first ones, with layers",
        )


def _empty(config: PretrainedConfig) -> PreTrainedModel:
    return AutoModel.from_config(config, attn_implementation=_attention(config), **_no_pooler(config))


def _attention(config: PretrainedConfig) -> str:
    """Torch's own attention, where the family has it: DeBERTa, for one, adds terms to the products of all pairs."""
    return "sdpa" if getattr(_architecture(config), "_supports_sdpa", False) else "eager"


def _architecture(config: PretrainedConfig) -> type[PreTrainedModel]:
    architecture: type[PreTrainedModel] = AutoModel._model_mapping[type(config)]
    return architecture


@torch.no_grad()
def _words_before_places(model: PreTrainedModel) -> None:
    """Let texts begin as sets of words: what is added to a word starts ten times smaller than the word.

    Positions and segments are the same for all texts. As wide as the words, they make all texts nearly equal at the
    start (cosine 0.93 for short ones), and the contrastive losses take long to tell them apart. They stand beside the
    words; embeddings elsewhere (relative positions, inside attention) are added to no word.
    """
    words = model.get_input_embeddings()
    for parent in model.modules():
        beside = [module for module in parent.children() if isinstance(module, nn.Embedding)]
        if words in beside:
            for module in beside:
                if module is not words:
                    module.weight.mul_(0.1)


def _no_pooler(config: PretrainedConfig) -> dict[str, bool]:
    accepts = "add_pooling_layer" in inspect.signature(_architecture(config).__init__).parameters
    return {"add_pooling_layer": False} if accepts else {}


def _of_a_head(key: str, prefix: str) -> bool:
    return key.removeprefix(f"{prefix}.").startswith(HEADS)


def _longest(config: PretrainedConfig, max_length: int | None) -> int:
    return max_length or longest_text(config.to_dict()) or 512

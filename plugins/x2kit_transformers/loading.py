"""Create transformers text encoders: with random weights, from saved assets, or pretrained. Imports torch."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from x2kit.plugin import SettingError, Tokenizer, WeightsError
from x2kit.plugin.toolkit import list_names, pretrained_weights, read_weights, rename_layer_norms
from x2kit_transformers.encoder import HuggingFaceEncoder
from x2kit_transformers.families import require_known
from x2kit_transformers.mlm_heads import PublishedHead
from x2kit_transformers.sizes import DROPOUT, key_of, longest_text

if TYPE_CHECKING:
    from x2kit_transformers.config import Summary

HEADS = (
    *("cls.", "lm_head.", "pooler.", "classifier.", "score.", "qa_outputs.", "vocab_", "generator_"),
    *("lm_predictions.", "mask_predictions.", "head.", "decoder."),
)
"""Prefixes of names in published files that belong to heads, which an encoder ignores."""

MLM_HEAD = ("dense.weight", "dense.bias", "norm.weight", "norm.bias", "decoder.weight", "decoder.bias")
FILES = ("model.safetensors", "pytorch_model.bin")

LOADING_ERRORS = (OSError, ValueError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Suppress the load report and progress bar of transformers; missing keys are checked here."""
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
    """Create an encoder with random weights from a config with model_type.

    Raises: SettingError if transformers rejects the config.
    """
    try:
        config = AutoConfig.for_model(**settings)
        model = _empty(config)
    except (ValueError, TypeError, ImportError) as error:
        raise SettingError(
            "config", f'transformers rejects these settings of "{settings["model_type"]}": {error}'
        ) from error
    _scale_position_embeddings(model)
    return HuggingFaceEncoder(model, tokenizer, max_length, summary, from_scratch=True)


def empty_encoder(
    assets: Path, tokenizer: Tokenizer, max_length: int | None, summary: Summary
) -> HuggingFaceEncoder:
    """Create the architecture that `save_assets` wrote, with random weights.

    Raises: WeightsError if the directory has no valid config.json.
    """
    try:
        config = AutoConfig.from_pretrained(assets, local_files_only=True, trust_remote_code=False)
    except LOADING_ERRORS as error:
        raise WeightsError(f"{assets}: no valid config.json of a text encoder: {error}") from error
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
    """Load an encoder with its published weights, in float32.

    Args:
        changes: keys that override those of the published config.
        dropout: rate for hidden states and attention; None for the published rates.
        layers: numbers of the published layers to use; None for all.
    Raises: WeightsError if the files are damaged, lack a parameter, or have unexpected ones that are not of heads;
        SettingError for unknown keys, or layers that cannot be removed.
    """
    try:
        config = AutoConfig.from_pretrained(pretrained, trust_remote_code=False)
        _override(config, changes, dropout)
        with _quiet_transformers():
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
        raise WeightsError(f"{pretrained}: cannot read the text encoder's weights: {error}") from error
    missing = sorted(info["missing_keys"])
    surplus = sorted(key for key in info["unexpected_keys"] if not _of_a_head(key, model.base_model_prefix))
    if missing or surplus:
        raise WeightsError(
            f"{pretrained}: does not fit {type(model).__name__}\n"
            f"  missing: {list_names(missing)}\n  unexpected: {list_names(surplus)}"
        )
    vocab = model.get_input_embeddings().num_embeddings
    if tokenizer.vocab_size > vocab:
        raise WeightsError(
            f"{pretrained}: the tokenizer has {tokenizer.vocab_size} ids, the word embedding {vocab}"
        )
    if layers is not None:
        _select_layers(model, layers)
    return HuggingFaceEncoder(model, tokenizer, _longest(config, max_length), summary, from_scratch=False)


def _override(config: PretrainedConfig, changes: Mapping[str, Any], dropout: float | None) -> None:
    require_known(changes, config)
    rates = {} if dropout is None else {key: dropout for key in DROPOUT if hasattr(config, key)}
    for key, value in {**rates, **changes}.items():
        setattr(config, key, value)


def _select_layers(model: PreTrainedModel, layers: Sequence[int]) -> None:
    """Reduce a model and its config to these layers, in this order."""
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
        raise SettingError("layers", f"{type(model).__name__} has no list of {count} layers; remove this")
    parent, name = stacks[0]
    stack = getattr(parent, name)
    setattr(parent, name, nn.ModuleList(stack[number] for number in layers))
    for listed, value in vars(config).items():  # such as layer_types, one entry per layer
        if isinstance(value, list) and len(value) == count:
            setattr(config, listed, [value[number] for number in layers])
    setattr(config, key, len(layers))
    with torch.device("meta"):
        again = set(_empty(config).state_dict())
    if again != set(model.state_dict()):
        raise SettingError(
            "pretrained_layers",
            f"the layers of {type(model).__name__} have different parameters, so this order is not possible; "
            "use the first ones, with layers",
        )


def _empty(config: PretrainedConfig) -> PreTrainedModel:
    return AutoModel.from_config(config, attn_implementation=_attention(config), **_no_pooler(config))


def _attention(config: PretrainedConfig) -> str:
    """Select torch's attention if the family supports it; DeBERTa, for one, adds terms to the scores."""
    return "sdpa" if getattr(_architecture(config), "_supports_sdpa", False) else "eager"


def _architecture(config: PretrainedConfig) -> type[PreTrainedModel]:
    architecture: type[PreTrainedModel] = AutoModel._model_mapping[type(config)]
    return architecture


@torch.no_grad()
def _scale_position_embeddings(model: PreTrainedModel) -> None:
    """Scale initial position and segment embeddings to a tenth of the word embeddings.

    Positions and segments are the same for all texts. At the scale of the words they make all texts nearly equal at
    the start (cosine 0.93 for short ones), which slows down the contrastive losses. Only embeddings in the module of
    the word embedding are scaled: others (relative positions, inside attention) are not added to words.
    """
    words = model.get_input_embeddings()
    for parent in model.modules():
        siblings = [module for module in parent.children() if isinstance(module, nn.Embedding)]
        if words in siblings:
            for module in siblings:
                if module is not words:
                    module.weight.mul_(0.1)


def _no_pooler(config: PretrainedConfig) -> dict[str, bool]:
    accepts = "add_pooling_layer" in inspect.signature(_architecture(config).__init__).parameters
    return {"add_pooling_layer": False} if accepts else {}


def _of_a_head(key: str, prefix: str) -> bool:
    return key.removeprefix(f"{prefix}.").startswith(HEADS)


def _longest(config: PretrainedConfig, max_length: int | None) -> int:
    return max_length or longest_text(config.to_dict()) or 512


def load_mlm_head(pretrained: str, heads: Sequence[PublishedHead]) -> dict[str, Tensor]:
    """Load a published head, with the names of `x2kit.plugin.TextEncoderConfig.pretrained_mlm_head`.

    Args:
        pretrained: name on the Hugging Face hub, or a local directory.
        heads: formats to try, in order.
    Raises: WeightsError if the file is damaged, or has no such head.
    """
    file = pretrained_weights("pretrained", pretrained, FILES)
    tensors = rename_layer_norms(read_weights(file))
    absent: list[list[str]] = []
    for head in heads:
        names = _names(head)
        if head.words in tensors:  # many files omit the output matrix, tied to the word embedding
            tensors.setdefault(names["decoder.weight"], tensors[head.words])
        absent.append(sorted(name for name in names.values() if name not in tensors))
        if not absent[-1]:
            return _with_all_biases({own: tensors[name].float() for own, name in names.items()})
    raise WeightsError(
        f"{file}: has no masked-language head (model.heads.mlm_pretrained)\n"
        f"  missing: {list_names(min(absent, key=len))}"
    )


def _names(head: PublishedHead) -> dict[str, str]:
    """Map x2kit's names to the published ones of the tensors that the family's head has."""
    found = {}
    for own in MLM_HEAD:
        try:
            (found[own],) = head.names.official(own)
        except WeightsError:  # a bias that the head lacks
            continue
    return found


def _with_all_biases(head: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add zeros for missing biases, which leaves the head's output unchanged."""
    return {own: head[own] if own in head else torch.zeros(len(head["norm.weight"])) for own in MLM_HEAD}

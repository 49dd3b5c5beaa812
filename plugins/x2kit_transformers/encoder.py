"""Text encoders around the models of transformers."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from x2kit.plugin import NameTable, TextEncoder, Tokenizer, WeightsError
from x2kit.plugin.weights import some
from x2kit_transformers.published import counts_from_pad, longest_text
from x2kit_transformers.settings import Summary

HEADS = ("cls.", "lm_head.", "pooler.", "classifier.", "score.", "qa_outputs.", "vocab_", "generator_")
"""Beginnings of names in published files that belong to heads, which an encoder has no use for."""

OFFICIAL = NameTable([("model.{rest}", "{rest}")])

TAKES_WHOLE_MASKS = frozenset({"bert", "roberta", "xlm-roberta"})
"""Families without windows or masks of their own, so that a mask [B, 1, L, L] is all there is to it."""

LOADING_ERRORS = (OSError, ValueError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError)


class HuggingFaceEncoder(TextEncoder):
    """A transformers encoder; its last hidden states are the tokens.

    Args:
        model: an encoder without a pooler.
        tokenizer: whose ids the model reads.
        max_length: longest text in tokens.
        summary: what position 0 becomes: the first token's state, or the mean of all states.
        from_scratch: no pretrained file filled the parameters.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        max_length: int,
        summary: Summary,
        *,
        from_scratch: bool,
    ) -> None:
        super().__init__()
        self.model = model
        self.summary = summary
        self.tokenizer = tokenizer
        self.width = int(model.config.hidden_size)
        self.max_length = max_length
        self._from_scratch = from_scratch

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        tokens: Tensor = self.model(input_ids=ids, attention_mask=self._visible(mask)).last_hidden_state
        if self.summary == "cls":
            return tokens
        weights = mask[:, :, None].to(tokens.dtype)
        mean = (tokens * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
        return torch.cat([mean, tokens[:, 1:]], 1)

    def _visible(self, mask: Tensor) -> Tensor:
        """[B, L] to [B, 1, L, L] where the model takes it so: else it looks whether all is True, and a GPU waits."""
        config = self.model.config
        if config.model_type in TAKES_WHOLE_MASKS and config._attn_implementation == "sdpa":
            return mask[:, None, None].expand(-1, 1, mask.shape[1], -1)
        return mask

    def read_partly(self, ids: Tensor, sees: Tensor, positions: Tensor) -> Tensor:
        first = self.tokenizer.special.pad + 1 if counts_from_pad(self.model.config.model_type) else 0
        tokens: Tensor = self.model(
            input_ids=ids, attention_mask=sees[:, None], position_ids=positions + first
        ).last_hidden_state
        return tokens

    def token_embedding(self) -> nn.Embedding | None:
        embedding = self.model.get_input_embeddings()
        if not isinstance(embedding, nn.Embedding) or embedding.embedding_dim != self.width:
            return None  # ALBERT's, for one, is narrower than its layers
        return embedding

    def fresh(self) -> set[str]:
        return super().fresh() if self._from_scratch else set()

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        return OFFICIAL.of(self.state_dict())

    def official_buffers(self) -> dict[str, Tensor]:
        return {"embeddings.position_ids": torch.arange(self.model.config.max_position_embeddings)[None]}

    def save_assets(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.model.config.save_pretrained(directory)


def fresh_encoder(
    model_type: str, settings: Mapping[str, Any], tokenizer: Tokenizer, max_length: int, summary: Summary
) -> HuggingFaceEncoder:
    """An encoder with random weights."""
    config = AutoConfig.for_model(model_type, **settings)
    model = _empty(config)
    _words_before_places(model)
    return HuggingFaceEncoder(model, tokenizer, max_length, summary, from_scratch=True)


def empty_encoder(
    assets: Path, tokenizer: Tokenizer, max_length: int | None, summary: Summary
) -> HuggingFaceEncoder:
    """The architecture that `save_assets` described, with random weights.

    Raises: WeightsError if the directory does not hold its config.json.
    """
    try:
        config = AutoConfig.from_pretrained(assets, local_files_only=True)
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
    overrides: Mapping[str, Any],
    layers: Sequence[int] | None = None,
) -> HuggingFaceEncoder:
    """An encoder with its published weights, in float32.

    Args:
        layers: numbers of the published layers that it takes, of a model that has them as BERT does; None for all.
    Raises: WeightsError if the files are damaged, lack a parameter, or hold more than heads beside.
    """
    try:
        config = AutoConfig.from_pretrained(pretrained, **overrides)
        model, info = AutoModel.from_pretrained(
            pretrained,
            config=config,
            attn_implementation="sdpa",
            dtype=torch.float32,
            output_loading_info=True,
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
        stack = model.encoder.layer
        model.encoder.layer = nn.ModuleList(stack[number] for number in layers)
        model.config.num_hidden_layers = len(layers)
    return HuggingFaceEncoder(model, tokenizer, _longest(config, max_length), summary, from_scratch=False)


def _empty(config: PretrainedConfig) -> PreTrainedModel:
    return AutoModel.from_config(config, attn_implementation="sdpa", **_no_pooler(config))


@torch.no_grad()
def _words_before_places(model: PreTrainedModel) -> None:
    """Let texts begin as sets of words: every embedding but that of the words starts ten times smaller.

    Positions and segments are the same for all texts. As wide as the words, they make all texts nearly equal at the
    start (cosine 0.93 for short ones), and the contrastive losses take long to tell them apart.
    """
    words = model.get_input_embeddings()
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module is not words:
            module.weight.mul_(0.1)


def _no_pooler(config: PretrainedConfig) -> dict[str, bool]:
    architecture = AutoModel._model_mapping[type(config)]
    accepts = "add_pooling_layer" in inspect.signature(architecture.__init__).parameters
    return {"add_pooling_layer": False} if accepts else {}


def _of_a_head(key: str, prefix: str) -> bool:
    return key.removeprefix(f"{prefix}.").startswith(HEADS)


def _longest(config: PretrainedConfig, max_length: int | None) -> int:
    return max_length or longest_text(config.to_dict()) or 512

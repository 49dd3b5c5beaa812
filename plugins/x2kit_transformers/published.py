"""What the config.json of a published text model says. Imports neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from x2kit.plugin import SettingError, TextFacts


def counts_from_pad(model_type: str | None) -> bool:
    """Whether positions of this type of model begin at pad + 1, as in fairseq."""
    return model_type in ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl")


def longest_text(config: Mapping[str, Any]) -> int | None:
    """Most tokens that a model can read, None if its positions have no end."""
    for key in ("max_position_embeddings", "n_positions", "seq_length"):
        if config.get(key):
            before = (
                int(config.get("pad_token_id", 1)) + 1 if counts_from_pad(config.get("model_type")) else 0
            )
            return int(config[key]) - before
    return None


def facts_of(config: Mapping[str, Any], max_length: int | None, usual_length: int) -> TextFacts:
    """Width, longest text and vocabulary; a model whose positions have no end reads `usual_length` tokens.

    Raises: SettingError if the model tells no width, or reads no text of `max_length`.
    """
    width = next(
        (int(config[key]) for key in ("hidden_size", "d_model", "dim", "n_embd") if config.get(key)), None
    )
    if width is None:
        raise SettingError(
            "pretrained", f'its config.json (type "{config.get("model_type")}") names no hidden_size'
        )
    longest = longest_text(config)
    if max_length is not None and longest is not None and max_length > longest:
        raise SettingError(
            "max_length", f"{max_length}, but the pretrained model reads at most {longest} tokens"
        )
    return TextFacts(width, max_length or longest or usual_length, config.get("vocab_size"))

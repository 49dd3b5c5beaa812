"""Read the sizes in the config.json of a text model. Imports neither torch nor transformers.

Families use different keys for one size, so each size is looked up under all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from x2kit.plugin import SettingError, TextFacts

Size = Literal["width", "layers", "heads", "inner", "positions"]

SIZE_KEYS: dict[Size, tuple[str, ...]] = {
    "width": ("hidden_size", "d_model", "dim", "n_embd"),
    "layers": ("num_hidden_layers", "n_layers", "n_layer"),
    "heads": ("num_attention_heads", "n_heads", "n_head"),
    "inner": ("intermediate_size", "hidden_dim", "d_inner"),
    "positions": ("max_position_embeddings", "n_positions", "seq_length"),
}
DROPOUT = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"),
    *("mlp_dropout", "embedding_dropout"),
)
"""Keys of dropout rates inside the layers."""

OFFSET_POSITIONS = frozenset(
    [
        *("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "xmod"),
        *("mpnet", "longformer", "data2vec-text", "esm", "ibert", "luke", "markuplm"),
    ]
)
"""Model types whose positions start at pad + 1, as in fairseq."""


def key_of(config: Mapping[str, Any], size: Size) -> str | None:
    """Find the key of a size in a config; None if there is none."""
    return next((key for key in SIZE_KEYS[size] if config.get(key)), None)


def size_of(config: Mapping[str, Any], size: Size) -> int | None:
    """Read a size of a config; None if there is none."""
    key = key_of(config, size)
    return None if key is None else int(config[key])


def position_offset(model_type: str | None, pad: int) -> int:
    """Return the number of unused positions before the first token's."""
    return pad + 1 if model_type in OFFSET_POSITIONS else 0


def longest_text(config: Mapping[str, Any]) -> int | None:
    """Return the maximum number of tokens; None if positions are unlimited."""
    positions = size_of(config, "positions")
    if positions is None:
        return None
    pad = config.get("pad_token_id")
    return positions - position_offset(config.get("model_type"), 1 if pad is None else int(pad))


def facts_from(config: Mapping[str, Any], max_length: int | None, usual_length: int) -> TextFacts:
    """Return width, longest text and vocabulary; with unlimited positions `usual_length` is the default length.

    Raises: SettingError if the config has no width, or `max_length` exceeds the positions.
    """
    width = size_of(config, "width")
    if width is None:
        raise SettingError(
            "pretrained", f'its config.json (type "{config.get("model_type")}") has no hidden_size'
        )
    longest = longest_text(config)
    if max_length is not None and longest is not None and max_length > longest:
        raise SettingError(
            "max_length", f"{max_length}, but the pretrained model reads at most {longest} tokens"
        )
    return TextFacts(width, max_length or longest or usual_length, config.get("vocab_size"))


def sizes_of(config: Mapping[str, Any]) -> dict[str, float]:
    """Read the sizes that are settings too, as far as present: width, heads, mlp_ratio."""
    width, heads, inner = (size_of(config, size) for size in ("width", "heads", "inner"))
    ratio = inner / width if inner and width else None
    found = {"width": width, "heads": heads, "mlp_ratio": ratio}
    return {setting: value for setting, value in found.items() if value is not None}

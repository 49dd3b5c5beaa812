"""What the config.json of a published text model says. Imports neither torch nor transformers.

Families of models call the same thing by other names, so each size is looked for under all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from x2kit.plugin import SettingError, TextFacts

Size = Literal["width", "layers", "heads", "inner", "positions"]

KEYS: dict[Size, tuple[str, ...]] = {
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
"""What rates of dropout inside the layers are called."""

FROM_PAD = frozenset(
    [
        *("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "xmod"),
        *("mpnet", "longformer", "data2vec-text", "esm"),
    ]
)


def counts_from_pad(model_type: str | None) -> bool:
    """Whether positions of this type of model begin at pad + 1, as in fairseq."""
    return model_type in FROM_PAD


def key_of(config: Mapping[str, Any], size: Size) -> str | None:
    """What a configuration calls a size; None if it has no such thing."""
    return next((key for key in KEYS[size] if config.get(key)), None)


def size_of(config: Mapping[str, Any], size: Size) -> int | None:
    """A size of a configuration; None if it has no such thing."""
    key = key_of(config, size)
    return None if key is None else int(config[key])


def positions_before(model_type: str | None, pad: int) -> int:
    """Positions that no token has: those up to the padding's, in models that count from there."""
    return pad + 1 if counts_from_pad(model_type) else 0


def longest_text(config: Mapping[str, Any]) -> int | None:
    """Most tokens that a model can read, None if its positions have no end."""
    positions = size_of(config, "positions")
    if positions is None:
        return None
    pad = config.get("pad_token_id")
    return positions - positions_before(config.get("model_type"), 1 if pad is None else int(pad))


def facts_of(config: Mapping[str, Any], max_length: int | None, usual_length: int) -> TextFacts:
    """Width, longest text and vocabulary; a model whose positions have no end reads `usual_length` tokens.

    Raises: SettingError if the model tells no width, or reads no text of `max_length`.
    """
    width = size_of(config, "width")
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


def sizes_of(config: Mapping[str, Any]) -> dict[str, float]:
    """The sizes that a recipe may name too, as far as the configuration has them: width, heads, mlp_ratio."""
    width, heads, inner = (size_of(config, size) for size in ("width", "heads", "inner"))
    ratio = inner / width if inner and width else None
    found = {"width": width, "heads": heads, "mlp_ratio": ratio}
    return {setting: value for setting, value in found.items() if value is not None}

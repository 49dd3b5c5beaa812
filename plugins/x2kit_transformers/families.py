"""Build configs of transformers models trained from scratch, in each family's keys. Imports torch."""

from __future__ import annotations

import difflib
import inspect
import math
import sys
from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, PretrainedConfig

from x2kit.plugin import SettingError, SpecialIds, Tokenizer
from x2kit_transformers.sizes import DROPOUT, SIZE_KEYS, Size, position_offset


def family_settings(
    family: str, sizes: Mapping[str, Any], tokenizer: Tokenizer, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the config, with model_type, of an encoder trained from scratch.

    Args:
        family: model_type of transformers.
        sizes: width, layers, heads, mlp_ratio, max_length, dropout.
        tokenizer: its ids are the vocabulary.
        changes: keys that override the family's.
    Raises: SettingError if the family is unknown, or has no such key.
    """
    defaults = _defaults(family)
    width, heads = sizes["width"], sizes["heads"]
    named: dict[Size, int] = {
        "width": width,
        "layers": sizes["layers"],
        "heads": heads,
        "inner": round(width * sizes["mlp_ratio"]),
        "positions": sizes["max_length"] + position_offset(family, tokenizer.special.pad),
    }
    settings: dict[str, Any] = {
        "vocab_size": tokenizer.vocab_size,
        "initializer_range": 0.02 * math.sqrt(768 / width),  # BERT's at its width, larger for narrow layers
        "num_key_value_heads": heads,
        "head_dim": width // heads,
        **dict.fromkeys(DROPOUT, sizes["dropout"]),
        **_special(tokenizer.special),
    }
    settings = {key: value for key, value in settings.items() if key in defaults}
    for size, value in named.items():
        key = next((key for key in SIZE_KEYS[size] if key in defaults), None)
        if key is not None:
            settings[key] = value
        elif size != "positions":
            raise SettingError(
                "family",
                f'"{family}" has none of {", ".join(SIZE_KEYS[size])}; it is not a supported encoder',
            )
    require_known(changes, AutoConfig.for_model(family))
    return {"model_type": family, **settings, **changes}


def _defaults(family: str) -> dict[str, Any]:
    """Return the default config of a family. Raises SettingError if AutoModel does not build it."""
    if family not in CONFIG_MAPPING:
        near = difflib.get_close_matches(family, list(CONFIG_MAPPING), n=1)
        nearest = f'; nearest: "{near[0]}"' if near else ""
        raise SettingError("family", f'transformers has no model_type "{family}"{nearest}')
    config = AutoConfig.for_model(family)
    if type(config) not in AutoModel._model_mapping:
        raise SettingError("family", f'AutoModel of transformers does not build "{family}"')
    defaults: dict[str, Any] = config.to_dict()
    return defaults


def _special(special: SpecialIds) -> dict[str, int]:
    return {
        "pad_token_id": special.pad,
        "bos_token_id": special.cls,
        "cls_token_id": special.cls,
        "eos_token_id": special.sep,
        "sep_token_id": special.sep,
        "mask_token_id": special.mask,
    }


def require_known(changes: Mapping[str, Any], config: PretrainedConfig) -> None:
    """Raise SettingError for keys that a model never reads, which transformers accepts silently."""
    known = set(config.to_dict())
    # Some keys have no default and are read by name (DeBERTa's position_buckets), so the source is searched too.
    code = inspect.getsource(sys.modules[AutoModel._model_mapping[type(config)].__module__])
    for key in changes:
        if key not in known and f'"{key}"' not in code and f"config.{key}" not in code:
            near = difflib.get_close_matches(key, sorted(known), n=1)
            nearest = f'; nearest: "{near[0]}"' if near else ""
            raise SettingError("config", f'models of type "{config.model_type}" have no key "{key}"{nearest}')

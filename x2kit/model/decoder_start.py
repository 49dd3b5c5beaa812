"""What a decoder of answers begins with: the other parts of a pretrained model. Imports torch."""

from __future__ import annotations

from torch import Tensor

from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.encoders import Encoder


def decoder_of(model: X2VLM, head: X2VLM) -> dict[str, Tensor]:
    """Tensors of the model's decoder out of its text and fusion encoders; see `TextDecoder.begin_from`.

    Args:
        model: has a decoder, and its encoders' weights.
        head: the model whose masked-language head the decoder's begins with, if it has one: a fine-tuned model itself
            need not have it any more.
    """
    mlm_head = head.mlm_head.state_dict() if hasattr(head, "mlm_head") else {}
    return model.decoder.begin_from(_by_official_name(model.text), _by_official_name(model.fusion), mlm_head)


def _by_official_name(encoder: Encoder) -> dict[str, Tensor]:
    """An encoder's tensors by official name; none for an encoder of which there is no official checkpoint."""
    if type(encoder).official_names is Encoder.official_names:
        return {}
    state = encoder.state_dict()
    found: dict[str, Tensor] = {}
    for own, names in encoder.official_names().items():
        parts = state[own].chunk(len(names)) if len(names) > 1 else (state[own],)
        found |= dict(zip(names, parts, strict=True))
    return found

"""The masked-language head of a published text encoder. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from x2kit.plugin import WeightsError
from x2kit.plugin.toolkit.pretrained import pretrained_weights
from x2kit.plugin.toolkit.weights import read_weights, some, with_new_names
from x2kit_transformers.heads import PublishedHead

HEAD = ("dense.weight", "dense.bias", "norm.weight", "norm.bias", "decoder.weight", "decoder.bias")
FILES = ("model.safetensors", "pytorch_model.bin")


def masked_language_head(pretrained: str, heads: Sequence[PublishedHead]) -> dict[str, Tensor]:
    """The head of a published model, by the names of `x2kit.plugin.TextEncoderConfig.pretrained_mlm_head`.

    Args:
        pretrained: name on the Hugging Face hub, or a local directory.
        heads: what the head may be called; the first that the file has is taken.
    Raises: WeightsError if the file is damaged, or of an encoder without such a head.
    """
    file = pretrained_weights("pretrained", pretrained, FILES)
    tensors = with_new_names(read_weights(file))
    absent: list[list[str]] = []
    for head in heads:
        names = _names(head)
        if head.words in tensors:  # many files leave out the output matrix, which is the word embedding's
            tensors.setdefault(names["decoder.weight"], tensors[head.words])
        absent.append(sorted(name for name in names.values() if name not in tensors))
        if not absent[-1]:
            return _with_all_biases({own: tensors[name].float() for own, name in names.items()})
    raise WeightsError(
        f"{file}: has no masked-language head to begin with (model.heads.mlm_pretrained)\n"
        f"  missing: {some(min(absent, key=len))}"
    )


def _names(head: PublishedHead) -> dict[str, str]:
    """Own name to published one, of what this family's head has."""
    found = {}
    for own in HEAD:
        try:
            (found[own],) = head.names.official(own)
        except WeightsError:  # a bias that it does without
            continue
    return found


def _with_all_biases(head: dict[str, Tensor]) -> dict[str, Tensor]:
    """A head without some biases is the same head with zeros there."""
    return {own: head[own] if own in head else torch.zeros(len(head["norm.weight"])) for own in HEAD}

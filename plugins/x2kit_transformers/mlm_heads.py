"""Tensor names of published masked-language heads, by family. Imports neither torch nor transformers."""

from __future__ import annotations

from typing import NamedTuple

from x2kit.plugin import NameTable


class PublishedHead(NamedTuple):
    """Tensor names of a family's masked-language head.

    Attributes:
        names: x2kit's names, as in `x2kit.plugin.TextEncoderConfig.pretrained_mlm_head`, to published ones; a bias
            that the family's head lacks has no line.
        words: the word embedding, used where a file omits the tied output matrix.
    """

    names: NameTable
    words: str


def _head(dense: str, norm: str, weight: str, bias: str, words: str) -> PublishedHead:
    lines = [("dense.{leaf}", f"{dense}.{{leaf}}"), ("norm.{leaf}", f"{norm}.{{leaf}}")]
    return PublishedHead(NameTable([*lines, ("decoder.weight", weight), ("decoder.bias", bias)]), words)


BERT = _head(
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
    "cls.predictions.decoder.weight",
    "cls.predictions.bias",
    "bert.embeddings.word_embeddings.weight",
)
ROBERTA = _head(
    "lm_head.dense",
    "lm_head.layer_norm",
    "lm_head.decoder.weight",
    "lm_head.bias",
    "roberta.embeddings.word_embeddings.weight",
)
"""Also of XLM-R and CamemBERT."""
DISTILBERT = _head(
    "vocab_transform",
    "vocab_layer_norm",
    "vocab_projector.weight",
    "vocab_projector.bias",
    "distilbert.embeddings.word_embeddings.weight",
)
DEBERTA = _head(
    "lm_predictions.lm_head.dense",
    "lm_predictions.lm_head.LayerNorm",
    "deberta.embeddings.word_embeddings.weight",
    "lm_predictions.lm_head.bias",
    "deberta.embeddings.word_embeddings.weight",
)
"""As published by Microsoft, versions 2 and 3."""
DEBERTA_OF_TRANSFORMERS = _head(
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
    "cls.predictions.decoder.weight",
    "cls.predictions.bias",
    "deberta.embeddings.word_embeddings.weight",
)
MODERNBERT = PublishedHead(
    NameTable(
        [
            ("dense.weight", "head.dense.weight"),
            ("norm.weight", "head.norm.weight"),
            ("decoder.weight", "decoder.weight"),
            ("decoder.bias", "decoder.bias"),
        ]
    ),
    "model.embeddings.tok_embeddings.weight",
)
"""Without biases of the linear layer and the norm."""

PUBLISHED = (BERT, ROBERTA, DISTILBERT, DEBERTA, DEBERTA_OF_TRANSFORMERS, MODERNBERT)

"""The masked-language head of a published text encoder. Imports torch."""

from __future__ import annotations

from torch import Tensor

from x2kit.plugin import NameTable, WeightsError
from x2kit.plugin.pretrained import pretrained_weights
from x2kit.plugin.weights import read_weights, some, with_new_names

HEAD = ("dense.weight", "dense.bias", "norm.weight", "norm.bias", "decoder.weight", "decoder.bias")
FILES = ("model.safetensors", "pytorch_model.bin")


def masked_language_head(pretrained: str, table: NameTable, prefix: str) -> dict[str, Tensor]:
    """The head of a published model, by the names of `x2kit.plugin.TextEncoderConfig.pretrained_mlm_head`.

    Args:
        pretrained: name on the Hugging Face hub, or a local directory.
        table: own names and published ones.
        prefix: of the encoder's own tensors in the file.
    Raises: WeightsError if the file is damaged, or of an encoder without this head.
    """
    file = pretrained_weights("pretrained", pretrained, FILES)
    tensors = with_new_names(read_weights(file))
    names = {own: published for own in HEAD for published in table.official(own)}
    words = tensors.get(f"{prefix}embeddings.word_embeddings.weight")
    if words is not None:  # many files leave out the output matrix, which is the word embedding's
        tensors.setdefault(names["decoder.weight"], words)
    missing = sorted(name for name in names.values() if name not in tensors)
    if missing:
        raise WeightsError(
            f"{file}: has no masked-language head to begin with (model.heads.mlm_pretrained)\n"
            f"  missing: {some(missing)}"
        )
    return {own: tensors[name].float() for own, name in names.items()}

"""A model of x2kit with the functions of open_clip: create_model_and_transforms, get_tokenizer. Imports no torch.

C channels, S side of an image, B texts, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from x2kit.adapters.opening import ModelLike, open_model
from x2kit.data.config import TransformConfig
from x2kit.data.transforms.text import clean_or_empty
from x2kit.errors import X2KitError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from x2kit.adapters.towers import Towers
    from x2kit.inference.model import Model
    from x2kit.model.inputs import ImageInput
    from x2kit.plugin.facts import ImageSpec
    from x2kit.plugin.tokenizers import Tokenizer as IdTokenizer

__all__ = ["Preprocess", "Tokenizer", "create_model_and_transforms", "get_tokenizer"]

FEWEST_TOKENS = 3
"""Of a text: first token, one piece, last token."""


def create_model_and_transforms(
    model_name: ModelLike,
    pretrained: str | None = None,
    *,
    precision: str = "fp32",
    device: str | torch.device = "cpu",
    output_dict: bool = False,
    aug_cfg: TransformConfig | None = None,
    **options: Any,
) -> tuple[Towers, Preprocess, Preprocess]:
    """Load a model with its preprocessing, as the function of open_clip with this name.

    `model.encode_image(preprocess(image)[None])` and `model.encode_text(tokenizer(texts))` give the vectors of
    `Model.embed_images` and `Model.embed_texts` before normalisation.

    Args:
        model_name: a name for `x2kit.load`, or a loaded model, which keeps its device and precision.
        pretrained: not used: the name says which weights.
        precision: of matrix products, as in `x2kit.load`; parameters stay float32 until you call `.half()`.
        device: of the model.
        output_dict: whether calling the model returns a dict in place of a tuple.
        aug_cfg: augmentation of `preprocess_train`; by default that of x2kit's recipes.
        options: further arguments of `x2kit.load`.
    Returns: model, preprocess_train, preprocess_val.
    Raises: X2KitError if `pretrained` is given; as `x2kit.load`; HeadError for a model without contrastive head.
    """
    from x2kit.adapters.towers import Towers

    refuse_pretrained(pretrained)
    model = open_model(model_name, device, precision, **options)
    towers = Towers(model)
    towers.output_dict = output_dict
    spec = model.module.image_spec
    eight_bit_colour = spec.channels == 3 and spec.value_range is None
    train = aug_cfg or TransformConfig(augment_colour=eight_bit_colour)
    return towers, Preprocess(spec, train), Preprocess(spec)


def get_tokenizer(
    model_name: ModelLike, context_length: int | None = None, *, device: str = "cpu", **options: Any
) -> Tokenizer:
    """Load the tokenizer of a model, as the function of open_clip with this name.

    Args:
        model_name: as in `create_model_and_transforms`; a loaded model is not loaded again.
        context_length: L; by default the maximum number of tokens of the model.
        device: on which the model is loaded.
        options: further arguments of `x2kit.load`.
    Raises: X2KitError if the model takes fewer tokens; as `x2kit.load`.
    """
    return tokenizer_of(open_model(model_name, device, "fp32", **options), context_length)


def tokenizer_of(model: Model, context_length: int | None = None) -> Tokenizer:
    """Return the tokenizer of a loaded model; see `get_tokenizer`."""
    module = model.module
    return Tokenizer(module.tokenizer, module.max_length, context_length)


def refuse_pretrained(pretrained: str | None) -> None:
    """Raise X2KitError for a tag of pretrained weights."""
    if pretrained:
        raise X2KitError(
            f"pretrained: found {pretrained!r}, but the name of a model of x2kit says which weights; leave it out "
            "(clip_benchmark: --pretrained '')"
        )


class Preprocess:
    """Read, resize and normalise one image to a tensor [C, S, S] float32.

    Args:
        spec: of the vision encoder.
        training: augmentation; None for none. Random numbers follow `torch.manual_seed`, and differ between the
            workers of a DataLoader.
    """

    def __init__(self, spec: ImageSpec, training: TransformConfig | None = None) -> None:
        self.spec, self.training = spec, training

    def __call__(self, image: ImageInput) -> Tensor:
        """Prepare an image: a PIL image, a path, bytes, an array or a tensor. Raises DataError if it is unreadable."""
        import torch

        from x2kit.data.media.images import ImageLike
        from x2kit.data.transforms.view import (
            draw_view,
            render_augmented,
            stack_pixels,
            unit_floats,
            whole_image,
        )
        from x2kit.model.inputs import eight_bits

        spec = self.spec
        source = ImageLike(
            eight_bits(image, spec.value_range is None), spec.channels, spec.value_range, upright=True
        )
        if self.training is None:
            pixels = whole_image(source, spec)
        else:
            rng = np.random.default_rng(int(torch.randint(2**62, ())))
            view = draw_view(source.size, self.training, rng)
            pixels = render_augmented(source.load(), view, spec, self.training, rng, keep_shape=False)
        mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (spec.mean, spec.std))
        return (unit_floats(stack_pixels([pixels])[0]) - mean) / std

    def __repr__(self) -> str:
        size, resized = self.spec.size, self.spec.interpolation
        return f"Preprocess({size} x {size}, {resized}, augmented: {self.training is not None})"


class Tokenizer:
    """Clean texts as in training and convert them to ids of one length.

    Attributes:
        context_length: L.
        vocab_size: number of ids.
        pad_token_id, sot_token_id, eot_token_id: ids of padding, first and last token.

    Args:
        tokenizer: of the text encoder.
        max_length: maximum number of tokens of the model.
        context_length: L; None for the maximum.
    Raises: X2KitError if L does not lie between 3 and the maximum.
    """

    def __init__(self, tokenizer: IdTokenizer, max_length: int, context_length: int | None = None) -> None:
        self.tokenizer, self._max_length = tokenizer, max_length
        self.context_length = self._checked(max_length if context_length is None else context_length)
        self.vocab_size = tokenizer.vocab_size
        special = tokenizer.special
        self.pad_token_id, self.sot_token_id, self.eot_token_id = special.pad, special.cls, special.sep

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """Tokenize one text or several to ids [B, L] int64, cut to L and padded with `pad_token_id`.

        A text of which nothing remains after cleaning becomes a text without words.

        Raises: DataError for a value that is not a str; X2KitError as the class.
        """
        import torch

        from x2kit.model.inputs import text_list

        length = self.context_length if context_length is None else self._checked(context_length)
        encoded = self.tokenizer.encode([clean_or_empty(text) for text in text_list(texts)], length)
        ids = torch.full((len(encoded), length), self.pad_token_id, dtype=torch.int64)
        for row, tokens in enumerate(encoded):
            ids[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
        return ids

    def encode(self, text: str) -> list[int]:
        """Tokenize one text without padding."""
        return self.tokenizer.encode([clean_or_empty(text)], self.context_length)[0]

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """Convert ids back to text, without special tokens."""
        return self.tokenizer.decode([int(id_) for id_ in ids])

    def _checked(self, length: int) -> int:
        if not FEWEST_TOKENS <= length <= self._max_length:
            raise X2KitError(
                f"context_length: expected {FEWEST_TOKENS} to {self._max_length}, the tokens that the model takes, "
                f"found {length}"
            )
        return length

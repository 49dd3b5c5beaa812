"""Inputs of programs: an example to trace with, and cases on which exported files are compared. Imports torch.

B rows, L text tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from x2kit.export.programs import ImageTower, Program, TextTower
from x2kit.model.x2vlm import X2VLM

LONGEST = 512
"""Longest text that is compared, in tokens."""
SHORTEST = 2
"""Shortest text: one special token and one piece, as in X-VLM."""


class Case(NamedTuple):
    """Inputs of all programs.

    Attributes:
        images: [B, C, S, S] float32 in [0, 1].
        ids: [B, L] int64.
        mask: [B, L] bool.
    """

    images: Tensor
    ids: Tensor
    mask: Tensor


def example(model: X2VLM) -> Case:
    """Return the case to trace with: three rows, because sizes 0 and 1 would be fixed."""
    return _case(model, 3, min(7, model.max_length), padded=True)


def cases(model: X2VLM) -> Iterator[Case]:
    """Yield cases of several batch sizes and text lengths, with and without padding; the same for every call."""
    middle, longest = min(9, model.max_length), min(model.max_length, LONGEST)
    yield _case(model, 1, SHORTEST, padded=False)
    yield _case(model, 1, middle, padded=False)
    yield _case(model, 2, longest, padded=True)
    yield _case(model, 3, middle, padded=True)
    yield _case(model, 5, min(middle + 3, longest), padded=False)


def _case(model: X2VLM, rows: int, length: int, padded: bool) -> Case:
    generator = torch.Generator().manual_seed(1000 * rows + length)
    spec, special = model.image_spec, model.tokenizer.special
    images = torch.rand(rows, spec.channels, spec.size, spec.size, generator=generator)
    brightness = torch.rand(rows, spec.channels, 1, 1, generator=generator)
    pieces = torch.tensor([id_ for id_ in range(model.tokenizer.vocab_size) if id_ not in special])
    ids = pieces[torch.randint(len(pieces), (rows, length), generator=generator)]
    mask = torch.ones(rows, length, dtype=torch.bool)
    ids[:, 0] = special.cls
    for row in range(rows):
        kept = max(SHORTEST, length - 2 * row) if padded else length
        ids[row, kept - 1] = special.sep
        ids[row, kept:], mask[row, kept:] = special.pad, False
    return Case((images + brightness) / 2, ids, mask)


@torch.inference_mode()
def inputs_of(program: Program, model: X2VLM, case: Case) -> tuple[Tensor, ...]:
    """Return the inputs of a program; those of the pair are computed by the model."""
    given = {"images": case.images, "ids": case.ids, "mask": case.mask}
    if "image_tokens" in program.inputs:
        given["image_tokens"] = ImageTower(model, tokens=True)(case.images)[-1]
        given["text_tokens"] = TextTower(model, tokens=True)(case.ids, case.mask)[-1]
    return tuple(given[name].clone() for name in program.inputs)

"""Compare values with the recording and collect the differences; `make parity` writes them to the docs."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Seen(NamedTuple):
    """A comparison that was made."""

    file: str
    """Of the reference."""
    quantity: str
    values: int
    """How many numbers or names were compared."""
    difference: float
    """The largest."""
    atol: float
    rtol: float
    limit: float
    """What both tolerances allow here."""


SEEN: list[Seen] = []
"""As tests go on."""


class Deliberate(NamedTuple):
    """Something that x2kit does otherwise than the official code unless it is asked."""

    what: str
    switch: str
    why: str


def check(
    file: str, quantity: str, found: Any, expected: Any, *, atol: float = 0.0, rtol: float = 0.0
) -> None:
    """Assert |found - expected| <= atol + rtol * max |expected|, and remember the largest difference.

    Args:
        file: of the reference, for example "xvlm/losses.json".
        quantity: name in that file, or what it is.
        found, expected: tensors, numbers, or lists; whole numbers must be equal.
        rtol: relative to the largest element, as the reference's README has it for gradients.
    """
    found, expected = _tensor(found), _tensor(expected)
    assert found.shape == expected.shape, (
        f"{file} {quantity}: shape {list(found.shape)}, {list(expected.shape)}"
    )
    difference, largest = (
        tensor.abs().max().item() if tensor.numel() else 0.0 for tensor in (found - expected, expected)
    )
    limit = atol + rtol * largest
    SEEN.append(Seen(file, quantity, expected.numel(), difference, atol, rtol, limit))
    assert difference <= limit, (
        f"{file} {quantity}: differs by {difference:.3g}, at most {limit:.3g} is allowed"
    )


def check_equal(file: str, quantity: str, found: Any, expected: Any) -> None:
    """Assert that names, texts or structures are the recorded ones."""
    SEEN.append(Seen(file, quantity, _leaves(expected), 0.0, 0.0, 0.0, 0.0))
    assert found == expected, f"{file} {quantity}: found {_short(found)}, recorded {_short(expected)}"


def _tensor(value: Any) -> Tensor:
    tensor = value.detach() if isinstance(value, Tensor) else torch.tensor(value)
    return tensor.double()


def _leaves(value: Any) -> int:
    """The names and numbers in a structure; that it is empty is one fact."""
    if isinstance(value, dict):
        value = list(value.values())
    return (
        sum(map(_leaves, value)) if value and isinstance(value, list | tuple | set | frozenset | range) else 1
    )


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) < 300 else text[:300] + "…"

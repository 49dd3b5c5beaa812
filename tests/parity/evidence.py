"""Comparing with a recorded value, and remembering how near it was: `make parity` writes it all into the docs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "parity.md"

SEEN: list[tuple[str, str, float, float, float]] = []
"""(file of the reference, quantity, largest difference, absolute and relative tolerance), as tests go on."""


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
    difference = (found - expected).abs().max().item() if expected.numel() else 0.0
    SEEN.append((file, quantity, difference, atol, rtol))
    largest = expected.abs().max().item() if expected.numel() else 0.0
    limit = atol + rtol * largest
    assert difference <= limit, (
        f"{file} {quantity}: differs by {difference:.3g}, at most {limit:.3g} is allowed"
    )


def check_equal(file: str, quantity: str, found: Any, expected: Any) -> None:
    """Assert that names, texts or structures are the recorded ones."""
    SEEN.append((file, quantity, 0.0, 0.0, 0.0))
    assert found == expected, f"{file} {quantity}: found {_short(found)}, recorded {_short(expected)}"


def _tensor(value: Any) -> Tensor:
    tensor = value.detach() if isinstance(value, Tensor) else torch.tensor(value)
    return tensor.double()


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) < 300 else text[:300] + "…"


def page(seen: list[tuple[str, str, float, float, float]], deliberate: list[Deliberate]) -> str:
    """The page of evidence."""
    rows: dict[tuple[str, str], tuple[float, float, float]] = {}
    for file, quantity, difference, atol, rtol in seen:
        before = rows.get((file, quantity), (0.0, 0.0, 0.0))
        rows[file, quantity] = (max(before[0], difference), max(before[1], atol), max(before[2], rtol))
    lines = [
        "# Parity with the official implementation",
        "",
        "Written by `make parity`, which runs `tests/parity` against the values recorded from the official code in",
        "`tests/reference`. Tolerances are absolute unless they say rel, which is relative to the largest element;",
        "“equal” means exactly. Another recording of the same layout is checked with",
        "`X2KIT_REFERENCE=DIR pytest tests/parity`.",
        "",
        "## Deliberately different",
        "",
        "| what x2kit does otherwise | the official behaviour | why |",
        "|---|---|---|",
        *(f"| {item.what} | {item.switch} | {item.why} |" for item in deliberate),
        "",
    ]
    for file in sorted({file for file, _ in rows}):
        lines += [f"## {file}", "", "| quantity | tolerance | largest difference |", "|---|---|---|"]
        lines += [
            f"| `{quantity}` | {_tolerance(atol, rtol)} | {difference:.1e} |"
            for (name, quantity), (difference, atol, rtol) in sorted(rows.items())
            if name == file
        ]
        lines.append("")
    return "\n".join(lines)


def _tolerance(atol: float, rtol: float) -> str:
    parts = [f"{atol:.0e}"] * (atol > 0) + [f"{rtol:.0e} rel"] * (rtol > 0)
    return " + ".join(parts) or "equal"

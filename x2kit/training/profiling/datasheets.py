"""Know the peak of common accelerators. Imports no torch.

Utilisation of a card, and the hours that a recipe takes on one, are relative to these figures.
"""

from __future__ import annotations

from typing import NamedTuple


class Accelerator(NamedTuple):
    """Peak FLOP/s of dense matrix products of a card, by the vendor's datasheet; fp16 is as fast as bf16.

    Attributes:
        words: all of them are in the device's name; of several cards that fit, the first one of the table counts.
        bf16, tf32, fp32: by precision.
    """

    words: tuple[str, ...]
    bf16: float
    tf32: float
    fp32: float

    def peak(self, precision: str) -> float:
        """Return FLOP/s at a precision of a recipe; `auto` and fp16 are as fast as bf16."""
        return float(getattr(self, precision, self.bf16))


ACCELERATORS: dict[str, Accelerator] = {
    "a100": Accelerator(("A100",), 312e12, 156e12, 19.5e12),
    "h100": Accelerator(("H100", "HBM3"), 989e12, 494e12, 67e12),
    "h100-pcie": Accelerator(("H100", "PCIe"), 756e12, 378e12, 51e12),
    "h200": Accelerator(("H200",), 989e12, 494e12, 67e12),
    "b200": Accelerator(("B200",), 2250e12, 1125e12, 75e12),
    "l40s": Accelerator(("L40S",), 362e12, 183e12, 91.6e12),
    "l4": Accelerator(("L4",), 121e12, 60e12, 30.3e12),
    "rtx4090": Accelerator(("RTX", "4090"), 165e12, 82.6e12, 82.6e12),
}
"""SXM variants unless the name says otherwise."""
DEFAULT_ACCELERATOR = "a100"


def accelerator_named(device: str) -> Accelerator | None:
    """Return the card of a device's name, such as "NVIDIA A100-SXM4-80GB"; None if it is not known."""
    words = device.replace("-", " ").split()
    fitting = (card for card in ACCELERATORS.values() if set(card.words) <= set(words))
    return next(fitting, None)

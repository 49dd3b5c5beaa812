"""Record the outcome of every key of a checkpoint. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from x2kit.errors import WeightsError

Fate = Literal["used", "twin", "derived", "resized", "kept", "dropped", "unexpected", "missing"]
MEANING: dict[Fate, str] = {
    "used": "read into the model",
    "resized": "read into the model, interpolated to its image size",
    "twin": "the same tensor under a second name",
    "derived": "computed by the model from its settings",
    "kept": "not read into the model; stored for conversion back",
    "dropped": "neither read nor stored",
    "unexpected": "in the file, but not in this layout",
    "missing": "in this layout, but not in the file",
}


@dataclass
class Account:
    """Fates of the keys of a checkpoint, with reasons.

    Attributes:
        source: the checkpoint, for messages.
        rows: key to fate and reason.
        shapes: descriptions of tensors with an unexpected shape.
    """

    source: str
    rows: dict[str, tuple[Fate, str]] = field(default_factory=dict)
    shapes: list[str] = field(default_factory=list)

    def add(self, key: str, fate: Fate, reason: str = "") -> None:
        """Record the fate of a key, replacing an earlier one."""
        self.rows[key] = (fate, reason)

    def of(self, *fates: Fate) -> list[str]:
        """List the keys with one of these fates."""
        return [key for key, (fate, _) in self.rows.items() if fate in fates]

    def require_whole(self) -> None:
        """Raise WeightsError if a key is missing or unexpected, or has another shape."""
        faults = [
            *(f"{fate}: {some(self.of(fate))}" for fate in ("missing", "unexpected") if self.of(fate)),
            *([f"other shape: {some(self.shapes)}"] if self.shapes else []),
        ]
        if faults:
            raise WeightsError(f"{self.source}: does not fit its layout\n  " + "\n  ".join(faults))

    def lines(self) -> Iterator[str]:
        """Yield the number of keys of each fate, and the kept and dropped keys."""
        for fate, count in self.counts().items():
            yield f"{count:5d} {fate:10s} {MEANING[fate]}"  # type: ignore[index]
        alike: dict[tuple[str, str], list[str]] = {}
        for key in self.of("kept", "dropped"):
            alike.setdefault(self.rows[key], []).append(key)
        for (fate, reason), keys in alike.items():
            yield f"      {fate}: {some(keys, 3)} ({reason})"

    def counts(self) -> Mapping[str, int]:
        """Count the keys of each fate."""
        found = Counter(fate for fate, _ in self.rows.values())
        return {fate: found[fate] for fate in MEANING if found[fate]}

    def to_json(self) -> dict[str, Any]:
        """Return the account as JSON-compatible values."""
        return {
            "counts": self.counts(),
            "keys": {key: {"fate": fate, "reason": reason} for key, (fate, reason) in self.rows.items()},
        }


def some(names: list[str], limit: int = 6) -> str:
    """Format the first names of a list and the number of others."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"

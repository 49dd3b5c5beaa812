"""What became of every key of a checkpoint. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from x2kit.errors import WeightsError

Fate = Literal["used", "twin", "derived", "resized", "kept", "dropped", "unexpected", "missing"]
MEANING: dict[Fate, str] = {
    "used": "read into the model",
    "resized": "read into the model, brought to its image size",
    "twin": "the same tensor under a second name",
    "derived": "follows from the settings, so the model makes it itself",
    "kept": "not read into the model; kept beside it for the way back",
    "dropped": "neither read nor kept",
    "unexpected": "in the file, but no part of this layout",
    "missing": "part of this layout, but not in the file",
}


@dataclass
class Account:
    """Every key of a checkpoint, with its fate and a reason where one is needed."""

    source: str
    rows: dict[str, tuple[Fate, str]] = field(default_factory=dict)
    shapes: list[str] = field(default_factory=list)

    def add(self, key: str, fate: Fate, reason: str = "") -> None:
        """One key."""
        self.rows[key] = (fate, reason)

    def of(self, *fates: Fate) -> list[str]:
        """The keys with one of these fates."""
        return [key for key, (fate, _) in self.rows.items() if fate in fates]

    def require_whole(self) -> None:
        """Raise WeightsError if a key is missing, unexpected or of another shape."""
        faults = [
            *(f"{fate}: {some(self.of(fate))}" for fate in ("missing", "unexpected") if self.of(fate)),
            *([f"other shape: {some(self.shapes)}"] if self.shapes else []),
        ]
        if faults:
            raise WeightsError(f"{self.source}: does not fit its layout\n  " + "\n  ".join(faults))

    def lines(self) -> Iterator[str]:
        """For people: how many keys had each fate, and the ones that are not simply used."""
        for fate, count in self.counts().items():
            yield f"{count:5d} {fate:10s} {MEANING[fate]}"  # type: ignore[index]
        alike: dict[tuple[str, str], list[str]] = {}
        for key in self.of("kept", "dropped"):
            alike.setdefault(self.rows[key], []).append(key)
        for (fate, reason), keys in alike.items():
            yield f"      {fate}: {some(keys, 3)} ({reason})"

    def counts(self) -> Mapping[str, int]:
        """How many keys had each fate."""
        found = Counter(fate for fate, _ in self.rows.values())
        return {fate: found[fate] for fate in MEANING if found[fate]}

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "counts": self.counts(),
            "keys": {key: {"fate": fate, "reason": reason} for key, (fate, reason) in self.rows.items()},
        }


def some(names: list[str], limit: int = 6) -> str:
    """The first names of a list, and how many more there are, for messages."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"

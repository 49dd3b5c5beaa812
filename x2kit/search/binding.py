"""Bind an index to the model that encoded it; load that model on first use. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from x2kit.data.storage.locations import is_url
from x2kit.errors import DataError, X2KitError
from x2kit.hub.names import HUB, HubModel, parse_name
from x2kit.hub.repositories import pinned_name
from x2kit.search.manifest import open_table, read_manifest

if TYPE_CHECKING:
    from x2kit.inference.model import Model
    from x2kit.plugin.indexes import Index

NAME, FINGERPRINT = "model", "fingerprint"
"""Facts of a table: name and SHA-256 of its model."""


@dataclass(frozen=True)
class LoadOptions:
    """Arguments of `x2kit.load` for the model of an index."""

    device: str = "auto"
    precision: str = "fp32"
    plugins: tuple[str, ...] = ()
    trust_plugins: bool = False


@dataclass
class BoundModel:
    """The model of an index, loaded when called, once.

    Args:
        given: a loaded model, its name, or None for the name in `facts`.
        facts: of the table; empty for a new one.
        options: how to load it.
    """

    given: Model | str | Path | None
    facts: Mapping[str, str] = field(default_factory=dict)
    options: LoadOptions = field(default_factory=LoadOptions)
    _loaded: Model | None = None
    _lock: Lock = field(default_factory=Lock)

    @property
    def name(self) -> str:
        """Name of the model, a local path absolute. Raises X2KitError without a model."""
        if self.given is None:
            if NAME not in self.facts:
                raise X2KitError("a new index needs a model: --model RUN, or a name that x2kit.load takes")
            return self.facts[NAME]
        return absolute_name(str(self.given if isinstance(self.given, str | Path) else self.given.name))

    def __call__(self) -> Model:
        """Load the model. Raises DataError if another model encoded the index, and as `x2kit.load`."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self._checked(self._load())
            return self._loaded

    def check(self) -> None:
        """Raise DataError for another model than that of the index; load it only if the name does not tell."""
        named = isinstance(self.given, str | Path | None)
        if self.facts and (not named or self.name != self.facts[NAME]):
            self()

    def facts_of_new(self) -> dict[str, str]:
        """Return the facts of a new table."""
        fingerprint = self().fingerprint  # loads the model, so a repository is in the cache
        return {NAME: lasting_name(self.name), FINGERPRINT: fingerprint}

    def _load(self) -> Model:
        if self.given is not None and not isinstance(self.given, str | Path):
            return self.given
        from x2kit.inference.loading import load  # imports torch

        options = self.options
        return load(
            self.name,
            options.device,
            options.precision,
            plugins=options.plugins,
            trust_plugins=options.trust_plugins,
        )

    def _checked(self, model: Model) -> Model:
        wanted = self.facts.get(FINGERPRINT)
        if wanted is not None and model.fingerprint != wanted:
            own = self.facts[NAME]
            other = "whose weights have changed since" if own == self.name else f"but this is {self.name}"
            raise DataError(
                f"the index was encoded by {own} (SHA-256 {wanted[:12]}…), {other} "
                f"(SHA-256 {model.fingerprint[:12]}…); use the model of the index, or build a new one in another folder"
            )
        return model


def open_bound(
    location: str, model: Model | str | Path | None, load: LoadOptions
) -> tuple[Index, BoundModel, str]:
    """Open a table with its model; returns them with the id of the index.

    Raises: DataError if there is no index, or another model encoded it.
    """
    manifest = read_manifest(location)
    table = open_table(location, manifest.config(location, load.plugins, load.trust_plugins))
    bound = BoundModel(model, table.spec.facts, load)
    try:
        bound.check()
    except X2KitError:
        table.close()
        raise
    return table, bound, manifest.id


def lasting_name(name: str) -> str:
    """Return a name that means the same model later: a repository of the Hub with its commit."""
    if not name.startswith(HUB):
        return name
    model = parse_name(name)
    assert isinstance(model, HubModel)
    return pinned_name(model)


def absolute_name(name: str) -> str:
    """Return the name of a model; that of an existing local file or folder as an absolute path."""
    return str(Path(name).absolute()) if not is_url(name) and Path(name).exists() else name

"""Tell whether a named model is on this machine, and how to get it. Uses no network, imports no torch."""

from __future__ import annotations

from typing import NamedTuple

from x2kit.hub.catalogue import PublishedModel
from x2kit.hub.names import ALLOWED, HubModel, LocalModel, ModelName
from x2kit.hub.published import SUFFIXES, is_cached, obstacle, partial_bytes
from x2kit.hub.repositories import cached_repository
from x2kit.io.atomic import format_bytes
from x2kit.io.cache import offline_variable
from x2kit.io.run_directory import MODEL, WEIGHTS


class Availability(NamedTuple):
    """Where a named model is.

    Attributes:
        here: a path, or in the cache.
        obstacle: why it cannot be used or fetched, and what to do; None if it can.
        download: sentence about the download that its first use starts; empty if it is here.
    """

    here: bool
    obstacle: str | None = None
    download: str = ""


def availability(model: ModelName) -> Availability:
    """Return where a model is."""
    if isinstance(model, PublishedModel):
        return _published(model)
    if isinstance(model, HubModel):
        return _hub(model)
    return _local(model)


def _local(model: LocalModel) -> Availability:
    path = model.path
    if path.is_dir():
        if any((folder / MODEL).is_file() for folder in (path, path / WEIGHTS)):
            return Availability(here=True)
        return Availability(here=True, obstacle=f"{path} has no weights ({MODEL}); allowed: {ALLOWED}")
    if path.suffix in SUFFIXES:
        return Availability(here=True)
    return Availability(
        here=True,
        obstacle=f"{path} is no checkpoint, whose name ends in {', '.join(SUFFIXES)}; allowed: {ALLOWED}",
    )


def _published(model: PublishedModel) -> Availability:
    if is_cached(model):
        return Availability(here=True)
    if (reason := obstacle(model)) is not None:
        return Availability(here=False, obstacle=reason)
    size = ", size not published" if model.size is None else f", {format_bytes(model.size)}"
    if kept := partial_bytes(model):
        size += f", of which {format_bytes(kept)} are here"
    return Availability(here=False, download=_announce(model.name, size))


def _hub(model: HubModel) -> Availability:
    if cached_repository(model) is not None:
        return Availability(here=True)
    if (variable := offline_variable()) is not None:
        return Availability(
            here=False,
            obstacle=f"{model.name}: not in the cache, and {variable} forbids downloads; with a network: x2kit models "
            f"fetch {model.name}",
        )
    return Availability(here=False, download=_announce(model.name))


def _announce(name: str, size: str = "") -> str:
    return f"{name} is not in the cache; its first use downloads it{size}; to do so now: x2kit models fetch {name}"

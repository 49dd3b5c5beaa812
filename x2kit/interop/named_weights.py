"""Turn the name of a model into a weights directory: fetch, check, convert. Imports no torch by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from x2kit.distributed.processes import ALONE, Processes
from x2kit.hub.catalogue import PublishedModel
from x2kit.hub.names import HubModel, NamedWeights, parse_name
from x2kit.hub.published import fetch_published
from x2kit.hub.repositories import fetch_repository
from x2kit.io.identity import Progress, no_progress, sha256_of
from x2kit.io.run_directory import identifying_file
from x2kit.model.config import ModelConfig
from x2kit.model.saved_recipe import plugins_of


class Recipe(Protocol):
    """The parts of a recipe that name its initial weights; implemented by `x2kit.Recipe`."""

    @property
    def model(self) -> ModelConfig: ...
    def to_yaml(self) -> str: ...


def weights_of(
    name: str | Path,
    *,
    tokenizer: str | None = None,
    plugins: Sequence[str | Path] = (),
    progress: Progress | None = None,
) -> Path:
    """Return the weights directory of a named model; see `named_weights`."""
    return named_weights(name, tokenizer=tokenizer, plugins=plugins, progress=progress).directory


def named_weights(
    name: str | Path,
    *,
    tokenizer: str | None = None,
    plugins: Sequence[str | Path] = (),
    progress: Progress | None = None,
) -> NamedWeights:
    """Return the weights of a named model, fetched and converted unless they are in the cache.

    Args:
        name: a run or weights directory; an official checkpoint of X²-VLM, X-VLM or CCLM (.th, .pth, .pt,
            .safetensors); hf-hub:ORGANISATION/NAME, optionally with @REVISION; or a name of `x2kit models list`.
        tokenizer: name or directory of the tokenizer of an official checkpoint, which does not contain it; None for
            the one of the catalogue, else the usual one of the vocabulary.
        plugins: files and modules whose components may match an official checkpoint, in addition to installed ones.
        progress: called with description, bytes done and all bytes.
    Raises: WeightsError for an unknown name, a model that cannot be fetched, or a file that differs from its published
        or recorded hash; StorageError for a full disk.
    """
    model, progress = parse_name(name), progress or no_progress
    if isinstance(model, HubModel):
        found = fetch_repository(model)
        return _directory(str(name), found.folder, {"revision": found.revision})
    if isinstance(model, PublishedModel):
        checkpoint = fetch_published(model, progress)
        return _official(
            str(name), checkpoint.file, checkpoint.sha256, tokenizer or model.tokenizer, plugins, progress
        )
    if model.is_file:
        return _official(str(name), model.path, sha256_of(model.path, progress), tokenizer, plugins, progress)
    return _directory(str(name), model.path, {})


def initial_weights(
    recipe: Recipe, processes: Processes = ALONE, progress: Progress | None = None
) -> NamedWeights | None:
    """Return the weights that `model.init_from` names, fetched by rank 0 first; None without.

    Arguments and errors are those of `weights_for_ranks`.
    """
    name = recipe.model.init_from
    return None if name is None else weights_for_ranks(name, recipe, processes, progress)


def weights_for_ranks(
    name: str, recipe: Recipe, processes: Processes = ALONE, progress: Progress | None = None
) -> NamedWeights:
    """Return the weights of a named model that a run needs, fetched by rank 0 first.

    Args:
        name: as for `named_weights`.
        recipe: of the run, with its plugins, files as absolute paths.
        processes: ranks of the run; all call this function.
        progress: as for `named_weights`.
    Raises: as `named_weights`, and WeightsError for a directory without weights.
    """
    plugins = plugins_of(recipe.to_yaml())
    found = named_weights(name, plugins=plugins, progress=progress) if processes.is_rank_zero else None
    processes.wait()
    found = found or named_weights(name, plugins=plugins)
    # a path is named by its weights directory
    return found if found.origin else found._replace(name=str(found.directory))


def _directory(name: str, path: Path, origin: dict[str, str]) -> NamedWeights:
    from x2kit.model.saving import weights_directory  # imports torch

    weights = weights_directory(path)
    return NamedWeights(name, weights, identifying_file(weights), origin)


def _official(
    name: str,
    file: Path,
    sha256: str,
    tokenizer: str | None,
    plugins: Sequence[str | Path],
    progress: Progress,
) -> NamedWeights:
    from x2kit.interop.conversions import converted  # imports torch

    directory = converted(file, sha256, tokenizer, [str(plugin) for plugin in plugins], progress)
    return NamedWeights(name, directory, file, {"sha256": sha256})

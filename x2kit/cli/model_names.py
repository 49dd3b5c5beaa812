"""Fetch the models that commands name, with progress on the terminal. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from x2kit.distributed.processes import Processes
from x2kit.errors import Fault, RecipeError, WeightsError
from x2kit.hub.names import LocalModel, parse_name
from x2kit.recipe.reading import ResolvedRecipe
from x2kit.terminal import ByteProgress

INIT_FROM = "model.init_from"
NAMES = "a run or weights directory, an official checkpoint, hf-hub:ORGANISATION/NAME, or a name of x2kit models list"
"""Kinds of model names, for the help of options."""


def fetch_initial_weights(resolved: ResolvedRecipe, processes: Processes) -> None:
    """Fetch and convert the weights of `model.init_from` before a run directory is made, on rank 0 first.

    Raises: RecipeError with the place of the key if they cannot be had.
    """
    if resolved.recipe.model.init_from is None:
        return
    for warning in resolved.warnings:
        if warning.key == INIT_FROM and processes.is_rank_zero:
            print(warning)
    from x2kit.interop.named_weights import initial_weights

    try:
        with ByteProgress() as progress:
            initial_weights(resolved.recipe, processes, progress)
    except WeightsError as error:
        raise RecipeError([Fault(INIT_FROM, resolved.origin(INIT_FROM), str(error))]) from error


def directory_of(name: str, plugins: Sequence[str], processes: Processes) -> Path:
    """Return the directory of a named model: a local one as given, else its weights in the cache, from rank 0 first.

    Raises: WeightsError for an unknown name or a model that cannot be fetched.
    """
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    from x2kit.interop.named_weights import weights_of

    found = None
    if processes.is_rank_zero:
        with ByteProgress() as progress:
            found = weights_of(name, plugins=plugins, progress=progress)
    processes.wait()
    return found or weights_of(name, plugins=plugins)


def require_directory(name: str, command: str) -> Path:
    """Return a local run or weights directory, for commands that write into it.

    Raises: WeightsError for any other name.
    """
    model = parse_name(name)
    if isinstance(model, LocalModel) and not model.is_file:
        return model.path
    raise WeightsError(
        f"{name}: {command} writes into the directory of the model, so it takes a run or weights directory; for this "
        f"model: x2kit evaluate {name}, whose result is written here"
    )

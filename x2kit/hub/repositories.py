"""Fetch models from the Hugging Face Hub into its own cache. Imports no torch.

Only the files of a weights directory are fetched. Python files are fetched only as copies of plugins in plugins/, which
are imported only with consent (`x2kit.plugin.loading.trust`).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from x2kit.errors import WeightsError
from x2kit.hub.names import HUB, HubModel
from x2kit.io.cache import offline_variable
from x2kit.io.run_directory import LORA, MODEL, PREPROCESSING, RECIPE, WEIGHTS

_FOLDERS = ("tokenizer", "vision", "text", "fusion")
_SUFFIXES = ("json", "txt", "model", "vocab", "bpe", "tiktoken", "safetensors")
PATTERNS = [
    pattern
    for start in ("", f"{WEIGHTS}/")
    for pattern in (
        *(f"{start}{name}" for name in (MODEL, LORA, RECIPE, PREPROCESSING, "plugins.json")),
        *(f"{start}{name}" for name in ("official.json", "official.safetensors", "account.json")),
        f"{start}selection.json",
        f"{start}plugins/*",
        *(f"{start}{folder}/*.{suffix}" for folder in _FOLDERS for suffix in _SUFFIXES),
    )
]
"""Patterns of the files that are fetched."""
TOKENIZER = ["*.json", "*.txt", "*.model"]
"""Patterns of the files of a published tokenizer."""


class Snapshot(NamedTuple):
    """A repository at one commit, in the cache."""

    folder: Path
    revision: str


def fetch_repository(model: HubModel) -> Snapshot:
    """Return a repository, downloaded unless this revision is cached. An interrupted download is resumed.

    Raises: WeightsError if it does not exist, is no x2kit model, or cannot be reached.
    """
    found = _snapshot(model.repository, model.revision, PATTERNS, model.name)
    if not any((found.folder / start / MODEL).is_file() for start in ("", WEIGHTS)):
        raise WeightsError(
            f"{model.name}: no {MODEL} in revision {found.revision}; the repository holds no x2kit model, or an "
            f"interrupted download of one: x2kit models fetch {model.name}"
        )
    return found


def cached_repository(model: HubModel) -> Snapshot | None:
    """Return a repository if its weights are in the cache, without using the network."""
    try:
        found = _snapshot(model.repository, model.revision, PATTERNS, model.name, offline=True)
    except WeightsError:
        return None
    return found if any((found.folder / start / MODEL).is_file() for start in ("", WEIGHTS)) else None


def pinned_name(model: HubModel) -> str:
    """Return the name with the commit that is in the cache, so that it stays the same model; unchanged without."""
    found = cached_repository(model)
    return model.name if found is None else HubModel(model.repository, found.revision).name


def fetch_tokenizer(name: str) -> str:
    """Fetch a published tokenizer into the cache of the Hub, unless it is there or `name` is a path.

    Returns: the name.
    Raises: WeightsError if it cannot be reached.
    """
    if Path(name).exists():
        return name
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        if any(
            isinstance(try_to_load_from_cache(name, file), str) for file in ("tokenizer.json", "vocab.txt")
        ):
            return name
    except HFValidationError as error:
        raise WeightsError(
            f"tokenizer {name}: neither a directory nor a name on the Hugging Face Hub"
        ) from error
    _snapshot(name, None, TOKENIZER, f"tokenizer {name}")
    return name


def _snapshot(
    repository: str, revision: str | None, patterns: list[str], shown: str, offline: bool = False
) -> Snapshot:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    variable = offline_variable()
    command = f"x2kit models fetch {shown}" if shown.startswith(HUB) else f"hf download {repository}"
    try:
        folder = Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=patterns,
                local_files_only=offline or variable is not None,
            )
        )
    except LocalEntryNotFoundError as error:
        reason = f"{variable} is set" if variable else "no network, or HF_HUB_OFFLINE is set"
        raise WeightsError(
            f"{shown}: not in the cache, and the Hub cannot be reached ({reason})\n  with a network: {command}; the "
            "cache of another machine can be copied to HF_HOME"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise WeightsError(f"{shown}: cannot be downloaded: {error}") from error
    return Snapshot(folder, folder.name)

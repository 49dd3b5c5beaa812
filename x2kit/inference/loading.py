"""Load a model by name: a run, weights, an official checkpoint or a repository of the Hub. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from x2kit.errors import WeightsError
from x2kit.inference.model import Model
from x2kit.inference.saved_tasks import SavedTasks
from x2kit.model import saving
from x2kit.model.device import choose_device, choose_precision
from x2kit.plugin.loading.manager import load_plugins

HUB = "hf-hub:"
"""Start of names of repositories on the Hugging Face Hub."""


def load(
    name: str | Path,
    device: str | torch.device = "auto",
    precision: str = "fp32",
    *,
    tokenizer: str | None = None,
    plugins: Sequence[str | Path] = (),
    trust_plugins: bool = False,
) -> Model:
    """Load a model for use.

    Args:
        name: a run or weights directory; an official checkpoint of X²-VLM, X-VLM or CCLM (.th, .pth, .pt,
            .safetensors); or hf-hub:ORGANISATION/NAME, optionally with @REVISION.
        device: "auto" prefers cuda, then mps, then cpu.
        precision: "fp32", "bf16", "fp16" or "auto".
        tokenizer: name or directory of the tokenizer of an official checkpoint, which does not contain it.
        plugins: files and modules that may be imported in addition to installed plugins.
        trust_plugins: import every plugin that the directory names; its files and modules run as code.
    Raises: WeightsError for a name without weights, or weights that do not fit their recipe; PluginError if a plugin is
        missing, or is neither installed nor allowed by the arguments; X2KitError for an unavailable device.
    """
    chosen = choose_device(device, "device")
    precision = choose_precision(precision, chosen, "precision")
    given = str(name)
    path = download(given.removeprefix(HUB)) if given.startswith(HUB) else Path(name)
    if path.is_file():
        return _load_checkpoint(path, given, tokenizer, chosen, precision, plugins)
    module = saving.load(path, chosen, plugins=plugins, trust_plugins=trust_plugins)
    weights = saving.weights_directory(path)
    tasks = _tasks(weights, plugins, trust_plugins)
    return Model(module, given, weights / saving.MODEL, precision, tasks=tasks)


def _tasks(weights: Path, plugins: Sequence[str | Path], trust_plugins: bool = False) -> SavedTasks:
    recipe = weights / saving.RECIPE
    names = [str(plugin) for plugin in plugins]
    return SavedTasks(*saving.read_saved_recipe(recipe, names, trust_plugins), str(recipe))


def _load_checkpoint(
    file: Path,
    name: str,
    tokenizer: str | None,
    device: torch.device,
    precision: str,
    plugins: Sequence[str | Path],
) -> Model:
    """Convert an official checkpoint in a temporary directory and load the result."""
    from x2kit.interop.convert import from_official

    given = [str(each) for each in plugins]
    loaded = load_plugins(given)
    loaded.require(given)
    with TemporaryDirectory(prefix="x2kit-") as folder:
        weights = Path(folder) / "weights"
        found = from_official(file, weights, loaded.registry, tokenizer, plugins=given)
        if found.tokenizer is None:
            raise WeightsError(
                f"{file}: official checkpoints have no tokenizer; pass tokenizer=NAME_OR_DIRECTORY, for example "
                '"bert-base-uncased" or "xlm-roberta-base", or write a weights directory with x2kit convert'
            )
        module = saving.load(weights, device, plugins=given)
        return Model(module, name, file, precision, tasks=_tasks(weights, given))


def download(name: str) -> Path:
    """Return the local snapshot of ORGANISATION/NAME[@REVISION], downloaded unless it is cached."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None))
    except LocalEntryNotFoundError as error:
        raise WeightsError(
            f"{HUB}{name}: not in the cache, and the Hub cannot be reached (HF_HUB_OFFLINE is set, or no network)"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise WeightsError(f"{HUB}{name}: cannot be downloaded: {error}") from error

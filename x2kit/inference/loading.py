"""Load a model by name, for use. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from x2kit.hub.names import NamedWeights
from x2kit.inference.model import Model
from x2kit.inference.saved_tasks import SavedTasks
from x2kit.interop.named_weights import named_weights
from x2kit.io.run_directory import RECIPE
from x2kit.model import saving
from x2kit.model.device import choose_device, choose_precision
from x2kit.terminal import ByteProgress


def load(
    name: str | Path,
    device: str | torch.device = "auto",
    precision: str = "fp32",
    *,
    tokenizer: str | None = None,
    plugins: Sequence[str | Path] = (),
    trust_plugins: bool = False,
) -> Model:
    """Load a model for use; published models are downloaded once, official checkpoints converted once.

    Args:
        name: a run or weights directory; an official checkpoint of X²-VLM, X-VLM or CCLM (.th, .pth, .pt,
            .safetensors); hf-hub:ORGANISATION/NAME, optionally with @REVISION; or a name of `x2kit models list`.
        device: "auto" prefers cuda, then mps, then cpu.
        precision: "fp32", "bf16", "fp16" or "auto".
        tokenizer: name or directory of the tokenizer of an official checkpoint, which does not contain it; None for
            the usual one of its vocabulary.
        plugins: files and modules that may be imported in addition to installed plugins.
        trust_plugins: import every plugin that the directory names; its files and modules run as code.
    Raises: WeightsError for a name without weights, or weights that do not fit their recipe; PluginError if a plugin is
        missing, or is neither installed nor allowed by the arguments; X2KitError for an unavailable device.
    """
    chosen = choose_device(device, "device")
    precision = choose_precision(precision, chosen, "precision")
    with ByteProgress() as progress:
        found = named_weights(name, tokenizer=tokenizer, plugins=plugins, progress=progress)
    module = saving.load(found.directory, chosen, plugins=plugins, trust_plugins=trust_plugins)
    return Model(module, str(name), found.file, precision, tasks=_tasks(found, plugins, trust_plugins))


def _tasks(weights: NamedWeights, plugins: Sequence[str | Path], trust_plugins: bool) -> SavedTasks:
    recipe = weights.directory / RECIPE
    names = [str(plugin) for plugin in plugins]
    return SavedTasks(*saving.read_saved_recipe(recipe, names, trust_plugins), str(recipe))

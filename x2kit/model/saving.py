"""Save and load weights directories. Imports torch.

model.safetensors     parameters and buffers; tied ones once
lora.safetensors      adapters that are not merged into them, if there are any
recipe.yaml           the resolved recipe
plugins/ plugins.json copies of file plugins, hashes and versions
preprocessing.json    size, channels, mean and standard deviation of images
tokenizer/            files of the tokenizer
vision/ text/ fusion/ files of the encoders that need more than the recipe
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_model, save_file
from torch import Tensor

from x2kit.errors import WeightsError
from x2kit.io.identity import sha256_of
from x2kit.io.run_directory import LORA, MODEL, PREPROCESSING, RECIPE, WEIGHTS
from x2kit.model.build import FUSION, TEXT, TOKENIZER, VISION, build_model, without_initialisation
from x2kit.model.config import ModelConfig
from x2kit.model.lora import merge_lora_file, split_lora, write_lora
from x2kit.model.saved_recipe import write_recipe
from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.choice import context_of
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.loading.trust import absolute, trusted
from x2kit.plugin.registry import Registry


def save_weights(model: X2VLM, recipe: str, directory: Path) -> None:
    """Write a weights directory. Not atomic: wrap it in `x2kit.io.atomic.atomic_folder`.

    Args:
        model: any X2VLM.
        recipe: the resolved recipe as YAML, file plugins as absolute paths; they are copied.
        directory: created if missing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tensors, adapters = split_lora(model, _tensors(model))
    save_file(tensors, directory / MODEL, {"format": "pt"})
    if adapters:
        write_lora(model, adapters, directory / LORA, sha256_of(directory / MODEL))
    write_recipe(recipe, directory)
    spec = json.dumps(model.image_spec._asdict(), indent=2)
    (directory / PREPROCESSING).write_text(spec + "\n", encoding="utf-8")
    for name, write in (
        (TOKENIZER, model.tokenizer.save),
        (VISION, model.vision.save_assets),
        (TEXT, model.text.save_assets),
        (FUSION, model.fusion.save_assets),
    ):
        (directory / name).mkdir(exist_ok=True)
        write(directory / name)


def _tensors(model: X2VLM) -> dict[str, Tensor]:
    """Collect parameters and buffers, tied ones once.

    Not `safetensors.torch.save_model`: it lists the aliases of tied tensors in random order, so equal weights would
    give different files.
    """
    once = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    return {name: value.contiguous() for name, value in model.state_dict().items() if name in once}


def recipe_of(
    config: ModelConfig,
    description: str,
    plugins: Sequence[str] = (),
    evaluation: Mapping[str, Any] | None = None,
) -> str:
    """Write the recipe of weights without a training run: description, model and, if given, evaluation.

    Args:
        config: of the model.
        description: of the weights.
        plugins: those not installed, files as absolute paths.
        evaluation: settings, paths absolute.
    """
    tree: dict[str, Any] = {"description": description}
    if plugins:
        tree["plugins"] = list(plugins)
    tree["model"] = config.model_dump(mode="json")
    if evaluation is not None:
        tree["evaluation"] = dict(evaluation)
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def weights_directory(directory: str | Path) -> Path:
    """Return `directory` if it holds weights, or its folder weights/ if it is a run. Raises WeightsError if neither."""
    path = Path(directory)
    for candidate in (path, path / WEIGHTS):
        if (candidate / MODEL).is_file():
            return candidate
    if not path.exists():
        raise WeightsError(f"{path}: no such directory")
    raise WeightsError(
        f"{path}: no weights; expected {MODEL} in it or in its folder {WEIGHTS}/ (an unfinished run has "
        "checkpoints only: x2kit train --resume --run-dir finishes it)"
    )


def load(
    directory: str | Path,
    device: str | torch.device = "cpu",
    *,
    plugins: Sequence[str | Path] = (),
    trust_plugins: bool = False,
) -> X2VLM:
    """Load the model of a weights or run directory in evaluation mode.

    Args:
        directory: with a recipe and weights.
        device: of the model.
        plugins: files and modules that may be imported in addition to installed plugins. A file with the name of one
            in the directory replaces it.
        trust_plugins: import every plugin that the directory names; its files and modules run as code.
    Raises: WeightsError for a directory without weights, or weights that do not fit the recipe; PluginError if a
        plugin is missing, or is neither installed nor allowed by the arguments.
    """
    path = weights_directory(directory)
    config = read_model_config(path / RECIPE, [str(name) for name in plugins], trust_plugins)
    with without_initialisation():
        model = build_model(config, assets=path)
    read_weights(model, path / MODEL)
    return model.to(device).eval()


def read_model_config(recipe: Path, given: Sequence[str] = (), trust_plugins: bool = False) -> ModelConfig:
    """Read the `model` of a saved recipe and load its plugins. Arguments and errors are those of `load`."""
    tree, registry = read_saved_recipe(recipe, given, trust_plugins)
    try:
        return ModelConfig.model_validate(tree["model"], context=context_of(registry))
    except ValidationError as error:
        faults = (
            f"{recipe}: {'.'.join(map(str, ('model', *fault['loc'])))}: {fault['msg']}"
            for fault in error.errors(include_url=False)
        )
        raise WeightsError("\n".join(faults)) from error


def read_saved_recipe(
    recipe: Path, given: Sequence[str] = (), trust_plugins: bool = False
) -> tuple[dict[str, Any], Registry]:
    """Read a saved recipe as a tree with the key `model`, and load its plugins; arguments and errors as `load`."""
    if not recipe.is_file():
        raise WeightsError(f"{recipe}: not found; a weights directory needs its recipe")
    try:
        tree: Any = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: not UTF-8, or an invalid date
        raise WeightsError(f"{recipe}: damaged, or not YAML: {error}") from error
    if not isinstance(tree, dict) or "model" not in tree:
        raise WeightsError(f"{recipe}: not a recipe: the key model is missing")
    names = tree.get("plugins") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise WeightsError(f"{recipe}: plugins: expected a list of files and modules, found {names!r}")
    wanted = [*trusted(names, given, recipe, trust_plugins), *(absolute(name, Path()) for name in given)]
    plugins = load_plugins(wanted)
    plugins.require(wanted)
    return tree, plugins.registry


def read_weights(model: X2VLM, file: Path) -> None:
    """Load a weights file into a model, and merge the adapters beside it, if any.

    Raises: WeightsError unless tensors and parameters match exactly; X2KitError for adapters without peft.
    """
    try:
        load_model(model, str(file), strict=True)
    except (RuntimeError, SafetensorError, OSError) as error:
        raise WeightsError(f"{file}: does not fit the model of its recipe: {error}") from error
    if (beside := file.with_name(LORA)).is_file():
        merge_lora_file(model, beside)

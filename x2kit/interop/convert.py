"""Convert official checkpoints to weights directories, and back. Imports torch.

In addition to the usual files, a converted weights directory has

official.json         layout, keys in their order with dtypes, plain values of the file
official.safetensors  tensors that are not in the model, stored for conversion back
account.json          fate of every key
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from x2kit.errors import SettingError, ShapeError, WeightsError
from x2kit.interop.account import Account
from x2kit.interop.checkpoint_files import OfficialFile, read_official, write_official
from x2kit.interop.layout import (
    MLM_OF_STACK,
    MLM_SEPARATE,
    PLAIN_TEXT,
    STACKED_TEXT,
    VISION,
    Layout,
    official_buffers,
    official_names,
    recognise,
)
from x2kit.interop.official_tasks import official_evaluation
from x2kit.interop.recognition import first_fusion_layer, model_of, shared_keys
from x2kit.io.atomic import atomic_folder
from x2kit.model import X2VLM, build_model, load, save_weights
from x2kit.model.build import without_initialisation
from x2kit.model.config import ModelConfig
from x2kit.model.saving import recipe_of, weights_directory
from x2kit.plugin.components import TextEncoderConfig
from x2kit.plugin.registry import Registry

FACTS, KEPT, ACCOUNT = "official.json", "official.safetensors", "account.json"
SPARE = {"crit_mask_lm_smoothed.one_hot": "label smoothing of the captioning loss, which is a setting"}
"""Keys of official models without counterpart here, with the reason."""


class Converted(NamedTuple):
    """Layout, settings and account of a converted checkpoint.

    Attributes:
        recorded: configuration that the file carries; empty if there is none.
        tokenizer: name or directory of the tokenizer.
        evaluation: kind of the task in the configuration, and settings to evaluate it; None for pretrained weights.
    """

    layout: Layout
    config: ModelConfig
    account: Account
    recorded: Mapping[str, Any]
    tokenizer: str | None
    evaluation: tuple[str, dict[str, Any]] | None


def from_official(
    file: Path,
    directory: Path,
    registry: Registry,
    tokenizer: str | Callable[[TextEncoderConfig], str | None] | None = None,
    image_size: int | None = None,
    heads: int | None = None,
    plugins: Sequence[str] = (),
    data: Path | None = Path(),
) -> Converted:
    """Convert an official checkpoint to a weights directory, written atomically.

    Args:
        file: .th, .pth, .pt or .safetensors.
        directory: must be absent or empty.
        registry: components that may match its encoders.
        tokenizer: name or directory of the text encoder's tokenizer, or a function that returns it for the settings of
            that encoder; None for the directory that the configuration in the file names, if it exists below `data`.
            Without a tokenizer the model accepts ids only.
        image_size: new image size; positions are interpolated.
        heads: attention heads of text and fusion encoder, if their width is not 64.
        plugins: those of `registry` that are not installed, by their names in a recipe.
        data: folder that paths in the configuration of the file are relative to, a checkout of the official code; None
            ignores these paths, and so the evaluation of the configuration.
    Raises: WeightsError with the keys that do not fit.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise WeightsError(f"{directory}: exists and is not empty; choose another directory")
    if file.is_dir():
        raise WeightsError(f"{file}: is a directory; --to official converts its weights to a checkpoint")
    content = read_official(file)
    tensors = content.tensors
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    layout = recognise(tensors, str(file))
    first = first_fusion_layer(shapes, layout)
    account = Account(str(file))
    try:
        shared = shared_keys(tensors, layout)
        distinct = {name: shape for name, shape in shapes.items() if name not in shared}
        config = model_of(distinct, layout, registry, str(file), _tied(tensors, layout), heads)
        recorded = recorded_config(content.values)
        chosen = tokenizer(config.text) if callable(tokenizer) else tokenizer
        if chosen is None and data is not None:
            chosen = recorded_tokenizer(recorded, data)
        text_tokenizer = config.text.official_tokenizer(chosen)
        with without_initialisation():
            model = build_model(config, tokenizer=text_tokenizer)
        names = official_names(model, layout, first)
        _account_for_model(model, names, tensors, account)
        kept = _account_for_rest(model, layout, content, account)
        account.require_whole()
        model.load_state_dict(_state(names, tensors))
        if image_size is not None:
            config = _resize(model, config, image_size, names, account)
            kept = {name: value for name, value in kept.items() if account.rows[name][0] == "kept"}
    except (SettingError, ShapeError) as error:
        raise WeightsError(f"{file}: {error}") from error
    facts = {
        "layout": layout.__dict__,
        "first_layer": first,
        "keys": {name: str(value.dtype).removeprefix("torch.") for name, value in tensors.items()},
        "beside": content.values,
    }
    evaluation = None if data is None else official_evaluation(recorded, config.heads, data.absolute())
    try:
        with atomic_folder(directory) as place:
            settings = None if evaluation is None else evaluation[1]
            save_weights(
                model.eval(), recipe_of(config, f"converted from {file.name}", plugins, settings), place
            )
            (place / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
            (place / ACCOUNT).write_text(json.dumps(account.to_json(), indent=1) + "\n", encoding="utf-8")
            if kept:
                save_file({name: value.clone() for name, value in kept.items()}, place / KEPT)
    except OSError as error:
        raise WeightsError(f"{directory}: cannot be written: {error.strerror or error}") from error
    return Converted(layout, config, account, recorded, chosen, evaluation)


def recorded_config(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the configuration of the official code that a file carries; empty without one."""
    found = values.get("config")
    return found if isinstance(found, Mapping) else {}


def recorded_tokenizer(recorded: Mapping[str, Any], data: Path) -> str | None:
    """Return the directory of the tokenizer that a configuration names, if it exists below a folder."""
    name = recorded.get("text_encoder")
    return str(data / name) if isinstance(name, str) and (data / name).is_dir() else None


def to_official(directory: Path, file: Path, plugins: Sequence[str] = ()) -> Layout:
    """Write weights in the layout of the checkpoint they came from, or in one that fits.

    Args:
        plugins: see `x2kit.load`.
    Raises: WeightsError for a model with a part that no official checkpoint has.
    """
    path = weights_directory(directory)
    model, facts = load(path, plugins=plugins), _facts(path)
    layout = _fitting_layout(model) if facts is None else Layout(**facts["layout"])
    first = _layers(model) * layout.stacked if facts is None else facts["first_layer"]
    tensors = _official_tensors(model, layout, first)
    values: dict[str, Any] = {}
    if facts is not None:
        tensors |= load_file(path / KEPT) if (path / KEPT).is_file() else {}
        tensors = _cast(
            {name: tensors[name] for name in facts["keys"] if name in tensors},
            {name: getattr(torch, kind) for name, kind in facts["keys"].items()},
        )
        values = facts["beside"]
    write_official(OfficialFile(tensors, values), file)
    return layout


def _facts(path: Path) -> dict[str, Any] | None:
    """Read the facts of the checkpoint that weights came from; None for weights trained here."""
    file = path / FACTS
    if not file.is_file():
        return None
    try:
        facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(
            f"{file}: damaged: {error}; remove it to write a layout that fits the model"
        ) from error
    return facts


def _tied(tensors: dict[str, Tensor], layout: Layout) -> bool:
    words = tensors.get(f"{layout.text}embeddings.word_embeddings.weight")
    decoder = tensors.get(f"{layout.mlm}predictions.decoder.weight")
    return words is not None and decoder is not None and torch.equal(words, decoder)


def _account_for_model(
    model: X2VLM, names: dict[str, tuple[str, ...]], tensors: dict[str, Tensor], account: Account
) -> None:
    """Account for the model's tensors: present or missing, and of the right shape."""
    for own, value in model.state_dict().items():
        parts = names[own]
        wanted = list(value.shape)
        if len(parts) > 1:
            wanted[0] //= len(parts)
        for part in parts:
            if part not in tensors:
                account.add(part, "missing")
                continue
            account.add(part, "used")
            _compare(part, tensors[part], wanted, account)


def _compare(name: str, value: Tensor, wanted: list[int], account: Account) -> None:
    if list(value.shape) != wanted:
        account.shapes.append(f"{name} {list(value.shape)} instead of {wanted}")


def _state(names: dict[str, tuple[str, ...]], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Map the checkpoint's tensors to the model's."""
    parts = {own: [tensors[part].float() for part in wanted] for own, wanted in names.items()}
    return {own: torch.cat(found) if len(found) > 1 else found[0] for own, found in parts.items()}


def _resize(
    model: X2VLM, config: ModelConfig, image_size: int, names: dict[str, tuple[str, ...]], account: Account
) -> ModelConfig:
    """Replace the vision encoder by one of another image size, with interpolated positions."""
    vision = config.vision.at_image_size(image_size)
    with without_initialisation():
        encoder = vision.build()
    before, after = model.vision.state_dict(), encoder.state_dict()
    fitted = encoder.fit(before)
    for name, value in fitted.items():
        part = names[f"vision.{name}"][0]
        _compare(part, value, list(after[name].shape), account)
        if value.shape != before[name].shape:
            account.add(part, "resized", f"{list(before[name].shape)} to {list(value.shape)}")
    account.require_whole()
    encoder.load_state_dict(fitted)
    model.vision = encoder
    for name in account.of("kept"):
        if name.startswith(VISION):  # tables of the old size
            account.add(name, "derived", f"computed for {image_size} pixels")
    return config.model_copy(update={"vision": vision})


def _account_for_rest(
    model: X2VLM, layout: Layout, content: OfficialFile, account: Account
) -> dict[str, Tensor]:
    """Account for keys outside the model; return the tensors stored for conversion back."""
    tensors = content.tensors
    for name in content.dropped:
        account.add(name, "dropped", "not plain values, and not part of a model")
    twins, buffers = layout.twins(tensors), official_buffers(model, layout)
    kept: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name in account.rows:
            continue
        if name in twins and twins[name] in tensors:
            if torch.equal(value, tensors[twins[name]]):
                account.add(name, "twin", twins[name])
                continue
            account.add(name, "kept", f"differs from {twins[name]}, which the official code reads last")
        elif name in buffers:
            _compare(name, value, list(buffers[name].shape), account)
            if torch.equal(value, buffers[name].to(value.dtype)):
                account.add(name, "derived")
                continue
            account.add(
                name, "kept", "differs from the value computed from the settings, which the model uses"
            )
        elif name in SPARE:
            account.add(name, "kept", SPARE[name])
        else:
            account.add(name, "unexpected")
            continue
        kept[name] = value
    return kept


def _official_tensors(model: X2VLM, layout: Layout, first: int) -> dict[str, Tensor]:
    state = model.state_dict()
    tensors: dict[str, Tensor] = {}
    cut: dict[int, list[Tensor]] = {}  # parts of tied tensors are tied too
    for own, parts in official_names(model, layout, first).items():
        value = state[own]
        if len(parts) > 1:
            # clones, because torch.save stores the whole memory of a view
            pieces = cut.setdefault(value.data_ptr(), [piece.clone() for piece in value.chunk(len(parts))])
        else:
            pieces = [value]
        tensors |= dict(zip(parts, pieces, strict=True))
    tensors |= official_buffers(model, layout)
    for prefix in (layout.mlm, "text_decoder.cls."):
        if f"{prefix}predictions.decoder.bias" in tensors:
            tensors[f"{prefix}predictions.bias"] = tensors[f"{prefix}predictions.decoder.bias"]
    return {name: value.contiguous() for name, value in tensors.items()}


def _cast(tensors: dict[str, Tensor], dtypes: dict[str, torch.dtype]) -> dict[str, Tensor]:
    """Cast tensors; names that share a tensor keep sharing one."""
    cast: dict[tuple[int, torch.Size, torch.dtype], Tensor] = {}
    for name, value in tensors.items():
        key = (value.data_ptr(), value.shape, dtypes[name])
        tensors[name] = cast.setdefault(key, value.to(dtypes[name]))
    return tensors


def _fitting_layout(model: X2VLM) -> Layout:
    """Choose X²-VLM's layout for a tied masked-language head, as in the paper's models, else CCLM's.

    Without such a head, as after fine-tuning, X²-VLM's unless the text encoder is one of CCLM's alone.
    """
    if hasattr(model, "text_temperature") and model.text_temperature is not model.temperature:
        raise WeightsError(
            "official checkpoints have one temperature, this model has two (model.heads.own_text_temperature)"
        )
    if not hasattr(model, "mlm_head"):
        stacked = getattr(model.text.built_from, "official_stack", None) is not False
        return Layout(PLAIN_TEXT, stacked, MLM_OF_STACK if stacked else MLM_SEPARATE)
    embedding = model.text.token_embedding()
    stacked = embedding is not None and model.mlm_head.decoder.weight is embedding.weight
    return Layout(STACKED_TEXT if stacked else PLAIN_TEXT, stacked, MLM_OF_STACK if stacked else MLM_SEPARATE)


def _layers(model: X2VLM) -> int:
    names = [name for parts in model.text.official_names().values() for name in parts]
    return len({name.split(".")[2] for name in names if name.startswith("encoder.layer.")})

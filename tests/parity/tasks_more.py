"""Models and images of the recorded tasks (tasks_more), loaded through conversion and `init_from`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from x2kit.interop.convert import from_official
from x2kit.interop.layout import MLM_OF_STACK, MLM_SEPARATE, PLAIN_TEXT, VISION, Layout, official_names
from x2kit.model import X2VLM
from x2kit.model.config import ModelConfig
from x2kit.model.initialisation import build_started
from x2kit.model.saving import read_model_config
from x2kit.plugin import ComponentConfig, VisionFeatures
from x2kit.plugin.loading.manager import load_plugins

from .conftest import REFERENCE

FOLDER = REFERENCE / "tasks_more"
CCLM_V1 = "cclm_v1"


class Files(NamedTuple):
    """Paths in the reference of a recorded task."""

    facts: str
    tensors: str


CCLM_V1_HEADS = Files("tasks_more/cclm_v1_heads.json", "tasks_more/cclm_v1_heads.safetensors")


class TaskModel(NamedTuple):
    """A model that starts from a recorded one.

    Attributes:
        model: in evaluation mode.
        names: official names of its tensors, without the masked-language stack's `bert.`.
        fresh: official names of tensors that do not come from the recorded model.
    """

    model: X2VLM
    names: dict[str, tuple[str, ...]]
    fresh: set[str]

    def official(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename own tensors, by own name, to the official ones that they are made of."""
        found: dict[str, Tensor] = {}
        for name, value in own.items():
            parts = self.names[name]
            found |= dict(zip(parts, value.chunk(len(parts)) if len(parts) > 1 else (value,), strict=True))
        return found

    def set(self, tensors: Mapping[str, Tensor], begin: str = "param.") -> None:
        """Set parameters of a recording, named by their official names behind `begin`."""
        given = {name.removeprefix(begin): value for name, value in tensors.items() if name.startswith(begin)}
        state = self.model.state_dict()
        whole = self.official(state) | given
        for own, parts in self.names.items():
            if not given.keys().isdisjoint(parts):
                state[own].copy_(
                    torch.cat([whole[part] for part in parts]) if len(parts) > 1 else given[parts[0]]
                )

    def gradients(self, loss: Tensor) -> dict[str, Tensor]:
        """Return the gradients of a loss by official name."""
        self.model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        named = {name: value.grad for name, value in self.model.named_parameters() if value.grad is not None}
        return self.official(named)


def recorded(files: Files | str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read facts and tensors of a recorded task, by their paths or their name in tasks_more."""
    if isinstance(files, str):
        files = Files(f"tasks_more/{files}.json", f"tasks_more/{files}.safetensors")
    return json.loads((REFERENCE / files.facts).read_text()), load_file(REFERENCE / files.tensors)


def model_file(name: str) -> Path:
    """Return the recorded model: that of the tasks' own recording if there is one."""
    if name == CCLM_V1:
        return REFERENCE / "tasks_more/cclm_v1_model.safetensors"
    own = FOLDER / f"{name}_model.safetensors"
    return own if own.is_file() else REFERENCE / name / "model.safetensors"


def config_of(name: str) -> dict[str, Any]:
    """Read the hyper-parameters of a recorded model."""
    if name == CCLM_V1:
        text = json.loads((REFERENCE / CCLM_V1_HEADS.facts).read_text())["text_config"]
        return {"text": {**text, "num_heads": text["num_attention_heads"]}}
    own = FOLDER / "config.json"
    if not own.is_file():
        return json.loads((REFERENCE / name / "config.json").read_text())
    found = json.loads(own.read_text())
    return found.get(name, found)


@cache
def _converted(name: str) -> TemporaryDirectory[str]:
    directory = TemporaryDirectory()
    tensors = load_file(model_file(name))
    if not any(tensor.startswith(VISION) for tensor in tensors):
        # This recording begins at image tokens, those of the multilingual model.
        others = load_file(model_file("cclm"))
        tensors |= {tensor: value for tensor, value in others.items() if tensor.startswith(VISION)}
        tensors["temp"] = others["temp"]
    file = Path(directory.name) / "model.th"
    torch.save({"model": tensors}, file)
    heads = config_of(name)["text"]["num_heads"]
    from_official(file, Path(directory.name) / "weights", load_plugins().registry, heads=heads)
    return directory


def task_model(name: str, fusion: type[ComponentConfig] | None = None, **heads: Any) -> TaskModel:
    """Start a model of a task from a recorded model.

    Args:
        name: folder of the recorded model.
        fusion: component that replaces its fusion encoder.
        heads: settings of `HeadsConfig`.
    """
    weights = Path(_converted(name).name) / "weights"
    config = read_model_config(weights / "recipe.yaml")
    changed: dict[str, Any] = {"heads": config.heads.model_copy(update={"built": (), **heads})}
    if fusion is not None:
        changed["fusion"] = fusion().in_place_of(config.fusion)
    started: ModelConfig = config.model_copy(update={**changed, "init_from": str(weights)})
    model, began = build_started(started)
    assert began is not None
    model._mean.zero_()
    model._std.fill_(1)
    separate = "cross" in config_of(name)
    layout = Layout(PLAIN_TEXT, not separate, MLM_SEPARATE if separate else MLM_OF_STACK)
    layers = 0 if separate else config.text.layers  # type: ignore[attr-defined]
    names = official_names(model, layout, layers)
    fresh = {part for own, (origin, _) in began.origins.items() if origin == "fresh" for part in names[own]}
    return TaskModel(model.eval(), names, fresh)


def features(name: str, model: X2VLM) -> VisionFeatures:
    """Encode the recorded images of a model, or return their tokens if the recording has no images."""
    name = "cclm" if name == CCLM_V1 else name
    images = load_file(REFERENCE / "tasks_more/images.safetensors")
    for key, value in images.items():
        if key.startswith(f"{name}.") and value.ndim == 4:
            return model.encode_images(value)
    if model_file(name).parent != FOLDER:
        return model.encode_images(load_file(REFERENCE / name / "image_batch.safetensors")["in.image"])
    tokens = images[f"{name}.out.image_embeds"]
    return VisionFeatures(tokens[:, 0], tokens[:, 1:], model.vision.grid)

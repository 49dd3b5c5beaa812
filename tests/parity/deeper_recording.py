"""A recording of another depth: twice as many fusion layers, decoders as deep and half as deep.

python -m tests.parity.deeper_recording DIR
X2KIT_REFERENCE=DIR pytest tests/parity

Behind every fusion layer of the image-text model stands a further one that changes nothing: it adds nothing to its
input, and takes over the last layer norm of the layer before. So all recorded outputs stay. Gradients and the training
run do not; `plain_run`, which reproduces the recorded ones, computes them. The model of separate encoders (cclm) stays
as it is; its start from the image-text model (cclm_init) and the decoder (tasks) follow; tasks_more
keeps the models that it was recorded with.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from .other_recording import Tensors, change_json, change_tensors, keep_models, save
from .plain_run import gradient_norms, train

LAYER = re.compile(
    r"(?:text_encoder\.(?:bert\.)?|text_decoder\.bert\.|cross_encoder\.)encoder\.layer\.(\d+)\."
)
NEUTRAL = ("attention.output", "crossattention.output")
"""Parts of the further layers whose norms do nothing."""


class Depth:
    """The names of a deeper stack.

    Args:
        first: number of the first fusion layer in the stack of text and fusion layers.
    """

    def __init__(self, first: int) -> None:
        self.first = first

    def names(self, name: str) -> list[str]:
        """A name at its new place and that of the further layer behind it; itself alone if it is of no fusion layer."""
        found = LAYER.search(name)
        first = self.first if found and found[0].startswith("text_encoder") else 0
        if found is None or int(found[1]) < first:
            return [name]
        place = first + 2 * (int(found[1]) - first)
        return [f"{name[: found.start(1)]}{number}{name[found.end(1) :]}" for number in (place, place + 1)]

    def all(self, names: Iterable[str]) -> list[str]:
        return list(chain.from_iterable(map(self.names, names)))

    def origins(self, mapping: Mapping[str, str]) -> dict[str, str]:
        """A table from tensors to what they begin as."""
        found = {}
        for target, source in mapping.items():
            sources = self.names(source)
            found |= dict(zip(self.names(target) if len(sources) > 1 else [target], sources, strict=True))
        return found

    def half(self, mapping: Mapping[str, str]) -> dict[str, str]:
        """The table of a decoder half as deep, out of that of one as deep as before: layers with odd numbers."""
        return {
            target: self.names(source)[-1 if self.first % 2 == 0 else 0] for target, source in mapping.items()
        }


def deeper(tensors: Tensors, depth: Depth) -> Tensors:
    """The tensors of a model that computes the same with twice as many fusion layers."""
    found = {}
    for name, value in tensors.items():
        own, *further = depth.names(name)
        found[own] = value
        for other in further:
            part = other[LAYER.search(other).end() :]  # type: ignore[union-attr]
            found[other] = value.clone()
            if part.endswith(("output.dense.weight", "output.dense.bias")):
                found[other] = torch.zeros_like(value)
            elif part.endswith(
                "key.weight"
            ):  # equal keys of neighbours are the doubled layers of X-VLM's NLVR2
                found[other] = value.roll(1, 0)
            elif part.endswith("LayerNorm.weight"):
                found[other if part.startswith(NEUTRAL) else own] = torch.ones_like(value)
            elif part.endswith("LayerNorm.bias"):
                found[other if part.startswith(NEUTRAL) else own] = torch.zeros_like(value)
    return found


def groups(facts: dict[str, Any], depth: Depth) -> dict[str, Any]:
    found: dict[str, Any] = {"init_params": depth.all(facts["init_params"])}
    for name, table in facts.items():
        if name != "init_params":
            entries = {new: entry for old, entry in table["table"].items() for new in depth.names(old)}
            found[name] = {**table, "table": entries}
    return found


def trained(folder: Path) -> None:
    """The gradients' norms and the training run of the deeper model."""
    log = json.loads((folder / "train_log.json").read_text())
    (steps, final), (exact_steps, exact) = (train(folder, dtype) for dtype in (torch.float32, torch.float64))
    log["steps"] = steps
    log["losses_total_float64"] = [step["loss_total"] for step in exact_steps]
    log["final_param_float32_vs_float64_max_abs"] = {
        name: (value - exact[name]).abs().max().item() for name, value in final.items()
    }
    (folder / "train_log.json").write_text(json.dumps(log))
    save(final, folder / "train_final.safetensors", metadata(folder / "train_final.safetensors"))
    norms = {
        "grad_l2_norm": gradient_norms(folder, torch.float32),
        "grad_l2_norm_float64": gradient_norms(folder, torch.float64),
    }
    change_json(folder / "losses.json", lambda facts: facts | norms)


def metadata(path: Path) -> dict[str, str] | None:
    with safe_open(path, "pt") as file:
        found: dict[str, str] | None = file.metadata()
    return found


def image_text(folder: Path) -> Depth:
    """The model and all that was recorded of it."""
    config = json.loads((folder / "config.json").read_text())
    text = config["text"]
    depth = Depth(text["fusion_start_at"])
    text["num_layers"] += text["num_layers"] - depth.first
    config["official_config_keys"]["text_num_hidden_layers"] = text["num_layers"]
    (folder / "config.json").write_text(json.dumps(config))
    change_tensors(folder / "model.safetensors", lambda tensors: deeper(tensors, depth))
    change_tensors(
        folder / "gradients.safetensors",
        lambda tensors: {depth.names(name)[0]: value for name, value in tensors.items()},
    )
    change_json(folder / "param_groups.json", lambda facts: groups(facts, depth))
    trained(folder)
    return depth


def started(facts: dict[str, Any], depth: Depth) -> dict[str, Any]:
    """The start of the model of separate encoders from the deeper one."""
    facts["model"]["cross"]["num_layers"] *= 2
    for table in (facts, facts["keep_text_encoder"]):
        table["target_to_source"] = depth.origins(table["target_to_source"])
    return facts


def decoder(facts: dict[str, Any], depth: Depth) -> dict[str, Any]:
    layers, table = facts["num_decoder_layers"], facts["target_to_source"]
    fresh = facts["freshly_initialised"]
    of_decoder = {target: source for target, source in table.items() if target.startswith("text_decoder.")}
    return facts | {
        "num_decoder_layers": 2 * layers,
        "target_to_source": depth.origins(table),
        "freshly_initialised": depth.all(fresh),
        "other_decoder_depth": {
            str(layers): {"target_to_source": depth.half(of_decoder), "freshly_initialised": fresh}
        },
    }


def repeated(tensors: Tensors, depth: Depth) -> Tensors:
    """Parameters that are given for a decoder; what the further layers read in the question is multiplied by 0."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        found |= {new: value.clone() for new in depth.names(name)}
    return found


def write(source: Path, target: Path) -> None:
    """Write a deeper recording.

    Args:
        source: a recording whose decoder is as deep as its fusion encoder.
        target: a directory that does not exist yet.
    """
    shutil.copytree(source, target)
    keep_models(source, target)
    depth = image_text(target / "xvlm")
    change_json(target / "cclm_init" / "mapping.json", lambda facts: started(facts, depth))
    change_json(target / "tasks" / "vqa_generation.json", lambda facts: decoder(facts, depth))
    change_tensors(target / "tasks" / "vqa_generation.safetensors", lambda tensors: repeated(tensors, depth))


if __name__ == "__main__":
    write(Path(__file__).parents[1] / "reference", Path(sys.argv[1]))

"""Add low-rank adapters to a model, merge them, write and read them beside its weights. Imports no torch by itself.

LoRA (arXiv:2106.09685): y = W x + (alpha / rank) B A x with A [rank, in] and B [out, rank]. B is 0 at first, so the
model is unchanged. The library peft replaces each adapted `nn.Linear` by its own layer, which keeps it as `base_layer`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from x2kit.errors import WeightsError, X2KitError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from x2kit.model.x2vlm import X2VLM

INSTALL_PEFT = 'pip install "x2kit[peft]"'
NAME = "x2kit"
"""Name of the adapters in peft, part of parameter names."""
_FACTS = "x2kit.lora"
"""Key in the metadata of a file of adapters."""
_PARAMETER = re.compile(rf"(.+)\.(lora_[AB])\.{NAME}\.weight")


class Lora(NamedTuple):
    """Adapters of a part.

    Attributes:
        rank: of the change of each matrix.
        alpha: the change is multiplied by alpha / rank.
        layers: names of the adapted linear layers within the part.
    """

    rank: int
    alpha: float
    layers: tuple[str, ...]


def add_lora(model: X2VLM, part: str, lora: Lora) -> None:
    """Add adapters to the linear layers of a part in place; they alone of the part's parameters stay trainable.

    Raises: X2KitError without peft.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise X2KitError(f"LoRA adapters need another package ({error}): {INSTALL_PEFT}") from error
    names = "|".join(map(re.escape, lora.layers))  # peft matches a string against whole names
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=names)
    inject_adapter_in_model(config, model.get_submodule(part), NAME)
    model.lora[part] = lora


def merge_lora(model: X2VLM) -> None:
    """Add the change of each adapter to its matrix, and put the plain linear layers back, in place."""
    for name in _adapted(model):
        layer: Any = model.get_submodule(name)
        layer.merge()
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer.get_base_layer())
    for part in model.lora:
        del model.get_submodule(part).peft_config
    model.lora.clear()


def _adapted(model: X2VLM) -> Iterable[str]:
    return [f"{part}.{layer}" for part, lora in model.lora.items() for layer in lora.layers]


def lora_names(model: nn.Module) -> list[str]:
    """Return the names of the parameters of adapters."""
    return [name for name, _ in model.named_parameters() if _PARAMETER.fullmatch(name)]


def split_lora(model: X2VLM, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split the tensors of a model into those without adapters, by their names there, and those of the adapters.

    The adapters' names are LAYER.lora_A.weight and LAYER.lora_B.weight, as in files of peft.
    """
    base = {f"{name}.base_layer.": f"{name}." for name in _adapted(model)}
    plain: dict[str, Tensor] = {}
    added: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if found := _PARAMETER.fullmatch(name):
            added[f"{found[1]}.{found[2]}.weight"] = value
            continue
        start, _, last = name.rpartition(".")
        plain[base.get(f"{start}.", f"{start}.") + last if start else last] = value
    return plain, added


def write_lora(model: X2VLM, tensors: Mapping[str, Tensor], file: Path, sha256: str) -> None:
    """Write adapters, from `split_lora`, with their rank and alpha by part, and the hash of the other weights."""
    from safetensors.torch import save_file

    facts = {part: {"rank": lora.rank, "alpha": lora.alpha} for part, lora in model.lora.items()}
    metadata = {"format": "pt", _FACTS: json.dumps(facts, sort_keys=True), "x2kit.model.sha256": sha256}
    save_file(dict(tensors), file, metadata)


def merge_lora_file(model: X2VLM, file: Path) -> None:
    """Merge the adapters of a file into a model without adapters, in place.

    Raises: WeightsError for a damaged file, or one of another model; X2KitError without peft.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as stream:
            facts: dict[str, dict[str, Any]] = json.loads((stream.metadata() or {})[_FACTS])
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise WeightsError(f"{file}: damaged, or no adapters of x2kit: {error}") from error
    layers = [name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")]
    try:
        for part, fact in facts.items():
            own = [name.removeprefix(f"{part}.") for name in layers if name.startswith(f"{part}.")]
            add_lora(model, part, Lora(fact["rank"], fact["alpha"], tuple(own)))
        named = {name: model.get_parameter(name) for name in lora_names(model)}
        with torch.no_grad():
            for name, value in tensors.items():
                start, matrix, _ = name.rsplit(".", 2)
                named.pop(f"{start}.{matrix}.{NAME}.weight").copy_(value)
        if named:
            raise KeyError(", ".join(named))
    except (AttributeError, KeyError, TypeError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{file}: does not fit the model beside it: {error}") from error
    merge_lora(model)

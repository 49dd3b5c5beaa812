"""Text checkpoints fill text encoder, fusion encoder and masked-language head as in the official code (init/)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from x2kit_fusion import CrossBert
from x2kit_timm import BeitV2
from x2kit_transformers import Bert, XLMRoberta

from x2kit.interop.layout import MLM_OF_STACK, MLM_SEPARATE, PLAIN_TEXT, STACKED_TEXT, Layout, official_names
from x2kit.model import X2VLM, build_model
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.plugin import IdsOnly, SpecialIds
from x2kit.training.config import TrainingConfig
from x2kit.training.optim.optimizer import parameter_groups

from .conftest import REFERENCE
from .evidence import check, check_equal

FILE = "init/text_checkpoint_mappings.json"
MAPPINGS: dict[str, Any] = json.loads((REFERENCE / FILE).read_text())

# Sizes are not recorded, since names alone are; any will do.
WIDTH, HEADS, INNER, VOCABULARY, POSITIONS = 16, 2, 32, 40, 24
SPECIAL = {
    "bert": SpecialIds(pad=0, cls=2, sep=3, unk=1, mask=4),
    "xlm-roberta": SpecialIds(pad=1, cls=0, sep=2, unk=3, mask=4),
}
SHAPES = {
    "word_embeddings.weight": (VOCABULARY, WIDTH),
    "position_embeddings.weight": (POSITIONS, WIDTH),
    "position_ids": (1, POSITIONS),
    "intermediate.dense.weight": (INNER, WIDTH),
    "intermediate.dense.bias": (INNER,),
    "decoder.weight": (VOCABULARY, WIDTH),
    "predictions.bias": (VOCABULARY,),
    "lm_head.bias": (VOCABULARY,),
    "seq_relationship.weight": (2, WIDTH),
    "seq_relationship.bias": (2,),
}


class Started:
    """A model that began with recorded text checkpoints, filled with random values."""

    def __init__(self, mapping: dict[str, Any], folder: Path) -> None:
        self.mapping = mapping
        setting = mapping["setting"]
        self.apart = "cross_num_hidden_layers" in setting
        self.files = {
            kind: self._write(kind, folder / kind)
            for kind in sorted({name.partition(":")[0] for name in self._keys()})
        }
        directories = {kind: str(folder / kind) for kind in self.files}
        total = setting["text_num_hidden_layers"]
        if self.apart:
            text, fusion = total, setting["cross_num_hidden_layers"]
            text_config: Bert | XLMRoberta = XLMRoberta(pretrained=directories["text"], layers=text)
            layers: list[int] | None = None
        else:
            text, fusion = setting["text_fusion_start_at"], total - setting["text_fusion_start_at"]
            # A file that is deeper than the model gives it layers at even distances.
            step = self.depth("bert") // total
            layers = [step * number + step - 1 for number in range(total)] if step > 1 else None
            text_config = Bert(
                pretrained=directories["bert"], layers=text, pretrained_layers=layers and layers[:text]
            )
        config = ModelConfig(
            vision=BeitV2(image_size=32, patch_size=16, width=WIDTH, depth=1, heads=HEADS),
            text=text_config,
            fusion=CrossBert(
                pretrained=directories["bert"],
                layers=fusion,
                pretrained_layers=layers and layers[text:],
                heads=HEADS,
                mlp_ratio=INNER / WIDTH,
            ),
            heads=HeadsConfig(embed_dim=WIDTH, tie_mlm=not self.apart, mlm_pretrained=not self.apart),
        )
        special = SPECIAL[text_config.model_type]
        self.model = build_model(config, tokenizer=IdsOnly(VOCABULARY, special))
        self.layout = Layout(
            PLAIN_TEXT if self.apart else STACKED_TEXT,
            not self.apart,
            MLM_SEPARATE if self.apart else MLM_OF_STACK,
        )
        self.names = official_names(self.model, self.layout, 0 if self.apart else text)

    def _keys(self) -> set[str]:
        return set(self.mapping["target_to_source"].values()) | set(self.mapping["not_used"])

    def depth(self, kind: str) -> int:
        """Layers of a file."""
        found = {name.split(".layer.")[1].split(".")[0] for name in self._of(kind) if ".layer." in name}
        return len(found)

    def _of(self, kind: str) -> list[str]:
        return sorted(key.partition(":")[2] for key in self._keys() if key.startswith(f"{kind}:"))

    def _write(self, kind: str, directory: Path) -> dict[str, Tensor]:
        """A Hugging Face directory with the recorded names."""
        directory.mkdir()
        roberta = any(name.startswith("roberta.") for name in self._of(kind))
        model_type = "xlm-roberta" if roberta else "bert"
        special = SPECIAL[model_type]
        config = {
            "model_type": model_type,
            "vocab_size": VOCABULARY,
            "hidden_size": WIDTH,
            "num_hidden_layers": self.depth(kind),
            "num_attention_heads": HEADS,
            "intermediate_size": INNER,
            "max_position_embeddings": POSITIONS,
            "type_vocab_size": 1 if roberta else 2,
            "pad_token_id": special.pad,
        }
        (directory / "config.json").write_text(json.dumps(config))
        tensors = {name: torch.randn(_shape(name, config["type_vocab_size"])) for name in self._of(kind)}
        used = set(self.mapping["target_to_source"].values())
        for name in tensors:
            if name.endswith("position_ids"):
                tensors[name] = torch.arange(POSITIONS)[None]
            if name.endswith("decoder.weight") and f"{kind}:{name}" in used:  # tied, as it was published
                tensors[name] = tensors[f"{model_type}.embeddings.word_embeddings.weight"].clone()
        save_file(tensors, directory / "model.safetensors", {"format": "pt"})
        return tensors

    def source(self, origin: str) -> Tensor:
        kind, _, name = origin.partition(":")
        return self.files[kind][name]

    def by_official_name(self) -> dict[str, Tensor]:
        state, found = self.model.state_dict(), {}
        for own, names in self.names.items():
            parts = state[own].chunk(len(names)) if len(names) > 1 else (state[own],)
            found |= dict(zip(names, parts, strict=True))
        return found

    def read_as(self, names: list[str]) -> list[str]:
        """Names without those under which the official code lists a tensor once more."""
        twins = self.layout.twins(names)
        return sorted({twins.get(name, name) for name in names})


def mark(tensor: Tensor) -> tuple[float, ...]:
    """What tells one random tensor from another."""
    return tuple(tensor.flatten()[:4].tolist())


def _shape(name: str, token_types: int) -> tuple[int, ...]:
    if name.endswith("token_type_embeddings.weight"):
        return token_types, WIDTH
    layer_output = name.endswith("output.dense.weight") and ".attention." not in name
    if layer_output:
        return WIDTH, INNER
    for end, shape in SHAPES.items():
        if name.endswith(end):
            return shape
    norm = "LayerNorm" in name or "layer_norm" in name
    return (WIDTH, WIDTH) if name.endswith("weight") and not norm else (WIDTH,)


@pytest.fixture(scope="module", params=MAPPINGS)
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Started:
    torch.manual_seed(0)
    return Started(MAPPINGS[request.param], tmp_path_factory.mktemp("text"))


def test_every_initial_tensor_equals_the_official_one(started: Started) -> None:
    found = started.by_official_name()
    twins = started.layout.twins(started.mapping["target_to_source"])
    for target, origin in started.mapping["target_to_source"].items():
        quantity = f"target_to_source ({target.split('.')[0]})"
        check(FILE, quantity, found[twins.get(target, target)], started.source(origin))


def test_the_layers_are_those_of_the_recorded_map(started: Started) -> None:
    found = started.by_official_name()
    for place, origin in started.mapping["layer_map"].items():
        number = place.removesuffix("c")
        prefix = "cross_encoder.encoder" if place.endswith("c") else f"{started.layout.text}encoder"
        kind = origin.rstrip("0123456789")
        begin = next(name for name in started.files[kind] if ".layer." in name).partition(".layer.")[0]
        query = "attention.self.query.weight"
        source = started.files[kind][f"{begin}.layer.{origin.removeprefix(kind)}.{query}"]
        check(FILE, "layer_map", found[f"{prefix}.layer.{number}.{query}"], source)


def test_tensors_without_file_are_the_recorded_rest(started: Started) -> None:
    filled = {mark(value) for file in started.files.values() for value in file.values()}
    parts = ("text_encoder.", "cross_encoder.", "mlm_head.")
    fresh = [
        name
        for name, value in started.by_official_name().items()
        if name.startswith(parts) and mark(value) not in filled
    ]
    check_equal(
        FILE, "freshly_initialised", sorted(fresh), started.read_as(started.mapping["freshly_initialised"])
    )


def test_unused_tensors_are_the_recorded_ones(started: Started) -> None:
    here = {mark(value) for value in started.by_official_name().values()}
    unused = sorted(
        f"{kind}:{name}"
        for kind, file in started.files.items()
        for name, value in file.items()
        if mark(value) not in here
    )
    check_equal(FILE, "not_used", unused, sorted(started.mapping["not_used"]))


def test_tensors_with_the_higher_rate_are_those_the_official_code_calls_new(started: Started) -> None:
    # Beside a cross encoder the official code does not count the cross-attention that it begins anew (see DELIBERATE).
    check_equal(
        FILE,
        "init_params",
        new_parameters(started, fusion_lr=1.0 if started.apart else None),
        started.read_as(started.mapping["init_params"]),
    )


def new_parameters(started: Started, fusion_lr: float | None) -> list[str]:
    """Official names of what learns `lr_mult` times as fast, the vision encoder's apart: no file was recorded."""
    model: X2VLM = started.model
    groups = parameter_groups(model, TrainingConfig(lr=1.0, lr_mult=2.0, steps=1, fusion_lr=fusion_lr))
    own = {name for group in groups if group["peak"] == 2.0 for name in group["names"]}  # type: ignore[attr-defined]
    found = {name for each in own for name in started.names[each]}
    return sorted(name for name in found if not name.startswith("vision_encoder."))

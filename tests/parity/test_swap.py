"""After a swap of the text encoder every initial tensor equals the official one (cclm_init)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from x2kit_fusion import CrossBert
from x2kit_timm import BeitV2
from x2kit_transformers import XLMRoberta

from x2kit.interop.convert import from_official
from x2kit.interop.layout import MLM_SEPARATE, PLAIN_TEXT, Layout, official_names
from x2kit.model import X2VLM, load
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.model.initialisation import Initialisation, build_started
from x2kit.plugin import SpecialIds, Tokenizer
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.tasks import STEP_LOSSES
from x2kit.plugin.tokenizers import IdsOnly
from x2kit.training.config import TrainingConfig
from x2kit.training.optim.optimizer import parameter_groups
from x2kit.training.step.losses import step_losses
from x2kit.training.step.plan import Negatives

from .conftest import REFERENCE, image_batch
from .evidence import check, check_equal

APART = Layout(PLAIN_TEXT, False, MLM_SEPARATE)
MAPPING, BATCH = "cclm_init/mapping.json", "cclm_init/batch.safetensors"


class RecordedXLMRoberta(XLMRoberta):
    """XLM-R from a directory that holds weights, but, as recorded, no tokenizer."""

    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        config = json.loads((Path(str(self.pretrained)) / "config.json").read_text())
        return IdsOnly(config["vocab_size"], SpecialIds(1, 0, 2, 3, config["vocab_size"] - 1))


@pytest.fixture(scope="module")
def mapping() -> dict[str, Any]:
    return json.loads((REFERENCE / MAPPING).read_text())


@pytest.fixture(scope="module")
def image_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image-text model as a weights directory."""
    directory = tmp_path_factory.mktemp("source") / "weights"
    heads = json.loads((REFERENCE / "xvlm" / "config.json").read_text())["text"]["num_heads"]
    from_official(REFERENCE / "xvlm" / "model.safetensors", directory, load_plugins().registry, heads=heads)
    return directory


@pytest.fixture(scope="module")
def text_checkpoint(mapping: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded XLM-R as a Hugging Face directory."""
    directory = tmp_path_factory.mktemp("xlmr")
    text = mapping["model"]["text"]
    config = {
        "model_type": "xlm-roberta",
        "num_hidden_layers": text["num_layers"],
        "num_attention_heads": text["num_heads"],
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 2,
        **{key: value for key, value in text.items() if key not in ("style", "num_layers", "num_heads")},
    }
    (directory / "config.json").write_text(json.dumps(config))
    tensors = load_file(REFERENCE / "cclm_init/text_checkpoint.safetensors")
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    return directory


@pytest.fixture(scope="module")
def swapped(mapping: dict[str, Any], image_text: Path, text_checkpoint: Path) -> tuple[X2VLM, Initialisation]:
    """The model after the swap."""
    vision = load_vision(image_text)
    cross = mapping["model"]["cross"]
    config = ModelConfig(
        vision=vision,
        text=RecordedXLMRoberta(pretrained=str(text_checkpoint)),
        fusion=CrossBert(
            layers=cross["num_layers"],
            heads=cross["num_heads"],
            mlp_ratio=cross["intermediate_size"] / cross["hidden_size"],
            layer_norm_eps=cross["layer_norm_eps"],
            dropout=0.0,
        ),
        heads=HeadsConfig(
            embed_dim=mapping["model"]["embed_dim"],
            tie_mlm=False,
            mlm_layer_norm_eps=mapping["model"]["mlm_head_layer_norm_eps"],
        ),
        init_from=str(image_text),
    )
    torch.manual_seed(0)
    model, began = build_started(config)
    assert began is not None
    return model, began


def load_vision(directory: Path) -> BeitV2:
    from x2kit.model.saving import read_model_config

    vision = read_model_config(directory / "recipe.yaml").vision
    assert isinstance(vision, BeitV2)
    return vision.model_copy(update={"drop_path": 0.0})


def by_official_name(model: X2VLM) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    state = model.state_dict()
    for own, names in official_names(model, APART, 0).items():
        parts = state[own].chunk(len(names)) if len(names) > 1 else (state[own],)
        found |= dict(zip(names, parts, strict=True))
    return found


def test_every_initial_tensor_equals_the_official_one(
    mapping: dict[str, Any], swapped: tuple[X2VLM, Initialisation]
) -> None:
    sources = {
        "image_text": load_file(REFERENCE / "xvlm" / "model.safetensors"),
        "text": load_file(REFERENCE / "cclm_init/text_checkpoint.safetensors"),
    }
    found = by_official_name(swapped[0])
    compared = 0
    for target, origin in mapping["target_to_source"].items():
        file, _, name = origin.partition(":")
        if file in sources:
            check(MAPPING, f"target_to_source ({target.split('.')[0]})", found[target], sources[file][name])
            compared += 1
    assert compared == len([o for o in mapping["target_to_source"].values() if not o.startswith("buffer")])


def test_only_the_vocabulary_head_is_new(
    mapping: dict[str, Any], swapped: tuple[X2VLM, Initialisation]
) -> None:
    model, began = swapped
    names = official_names(model, APART, 0)
    fresh = {name for own, (origin, _) in began.origins.items() if origin == "fresh" for name in names[own]}
    twin = APART.twins(mapping["freshly_initialised"])
    check_equal(
        MAPPING,
        "freshly_initialised",
        sorted(fresh),
        sorted({twin.get(name, name) for name in mapping["freshly_initialised"]}),
    )
    groups = parameter_groups(model, TrainingConfig(lr=1.0, lr_mult=2.0, steps=1))
    new = {
        name
        for group in groups
        if group["peak"] == 2.0
        for own in group["names"]  # type: ignore[attr-defined]
        for name in names[own]
    }
    check_equal(
        MAPPING,
        "init_params_after_load",
        sorted(new),
        sorted(twin.get(name, name) for name in mapping["init_params_after_load"]),
    )


def test_tokens_and_losses_of_the_swapped_model(
    mapping: dict[str, Any], swapped: tuple[X2VLM, Initialisation]
) -> None:
    model = swapped[0].train()
    batch = load_file(REFERENCE / BATCH)
    with torch.no_grad():
        model.mlm_head.decoder.weight.copy_(batch["fresh.mlm_head.predictions.decoder.weight"])
        model.mlm_head.decoder.bias.copy_(batch["fresh.mlm_head.predictions.bias"])
    model._mean.zero_()
    model._std.fill_(1)
    features = model.encode_images(batch["in.image"])
    tokens = model.encode_texts(batch["in.text_ids"], batch["in.text_atts"].bool())
    sequence = torch.cat([features.summary[:, None], features.patches], 1)
    check(BATCH, "image_embeds", sequence, batch["out.image_embeds"], atol=2e-5)
    check(BATCH, "text_embeds", tokens, batch["out.text_embeds"], atol=2e-5)
    negatives = Negatives(batch["in.image_neg_idx"], batch["in.text_neg_idx"])
    losses = step_losses(model, image_batch(batch), {"image": STEP_LOSSES["images"]}, {"image": negatives})
    for name, value in mapping["losses"].items():
        found = losses["image"][name.removeprefix("loss_")]  # type: ignore[index]
        check(MAPPING, name, found, value, atol=1e-5)


def test_kept_text_encoder_and_fusion_layers_are_separate(mapping: dict[str, Any], image_text: Path) -> None:
    """Without a swap, the stack's last layers are the fusion encoder's: x2kit has them apart from the start."""
    source = load_file(REFERENCE / "xvlm" / "model.safetensors")
    found = by_official_name(load(image_text))
    for target, origin in mapping["keep_text_encoder"]["target_to_source"].items():
        file, _, name = origin.partition(":")
        if file == "image_text":
            check(
                MAPPING, "keep_text_encoder", found[APART.twins([target]).get(target, target)], source[name]
            )

"""The masked-language head of a published model, as the beginning of the product's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoModelForMaskedLM
from x2kit_fusion import CrossBert
from x2kit_timm import BeitV2
from x2kit_transformers import Bert, HuggingFaceText, XLMRoberta

from x2kit.model import X2VLM, build_model, save_weights
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.model.initialisation import build_started
from x2kit.model.saving import recipe_of
from x2kit.plugin import SettingError, TextEncoderConfig, WeightsError
from x2kit.testing.subjects import TEXTS
from x2kit.training.config import TrainingConfig
from x2kit.training.optim.optimizer import parameter_groups


def built(text: TextEncoderConfig, tie: bool = True, eps: float = 1e-12) -> X2VLM:
    config = ModelConfig(
        vision=BeitV2(image_size=32, patch_size=16, width=16, depth=1, heads=2),
        text=text,
        fusion=CrossBert(layers=1, heads=2),
        heads=HeadsConfig(mlm_pretrained=True, tie_mlm=tie, mlm_layer_norm_eps=eps),
    )
    return build_model(config, TEXTS).eval()


@pytest.mark.parametrize("tie", [True, False])
def test_the_head_answers_as_the_published_one(bert_directory: Path, xlmr_directory: Path, tie: bool) -> None:
    for component, directory, eps in ((Bert, bert_directory, 1e-12), (XLMRoberta, xlmr_directory, 1e-5)):
        model = built(component(pretrained=str(directory)), tie, eps)
        published = AutoModelForMaskedLM.from_pretrained(directory, dtype=torch.float32).eval()
        special = model.tokenizer.special
        ids = torch.tensor([[special.cls, 7, special.mask, special.sep]])
        mask = torch.ones_like(ids, dtype=torch.bool)
        found = model.mlm_head(model.encode_texts(ids, mask), torch.tensor([[2]]))
        assert_close(found[:, 0], published(ids, mask).logits[:, 2])


def test_a_pretrained_head_is_not_new(bert_directory: Path) -> None:
    groups = parameter_groups(
        built(Bert(pretrained=str(bert_directory)), tie=False),
        TrainingConfig(lr=1.0, lr_mult=2.0, steps=1),
    )
    new = {name for group in groups if group["peak"] == 2.0 for name in group["names"]}  # type: ignore[attr-defined]
    assert "itm_head.0.weight" in new
    assert not any(name.startswith("mlm_head.") for name in new)


def test_old_names_of_layer_norms_are_read(bert_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((bert_directory / "config.json").read_text())
    tensors = load_file(bert_directory / "model.safetensors")
    norm = torch.arange(16.0)
    tensors["cls.predictions.transform.LayerNorm.gamma"] = norm
    del tensors["cls.predictions.transform.LayerNorm.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert_close(Bert(pretrained=str(tmp_path)).pretrained_mlm_head()["norm.weight"], norm)


def test_a_file_without_the_head_is_refused(bert_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    tensors = load_file(bert_directory / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if not name.startswith("cls.")}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match="has no masked-language head"):
        Bert(pretrained=str(tmp_path)).pretrained_mlm_head()


def test_encoders_that_bring_no_head_say_so(distilbert_directory: Path) -> None:
    with pytest.raises(SettingError, match="pretrained: required to load a masked-language head"):
        built(Bert(width=16, heads=2))
    with pytest.raises(SettingError, match="pretrained: required to load a masked-language head"):
        built(HuggingFaceText(family="bert", width=16, heads=2))
    with pytest.raises(WeightsError, match="has no masked-language head"):
        built(HuggingFaceText(pretrained=str(distilbert_directory)))


def test_a_swapped_text_encoder_may_bring_its_head(bert_directory: Path, tmp_path: Path) -> None:
    source = built(Bert(pretrained=str(bert_directory)))
    config = ModelConfig(
        vision=BeitV2(image_size=32, patch_size=16, width=16, depth=1, heads=2),
        text=Bert(pretrained=str(bert_directory)),
        fusion=CrossBert(layers=1, heads=2),
        init_from=str(tmp_path / "source"),
        init_except=("text",),
        heads=HeadsConfig(mlm_pretrained=True),
    )
    save_weights(
        source, recipe_of(config.model_copy(update={"init_from": None}), "tiny"), tmp_path / "source"
    )
    model, began = build_started(config)
    assert began is not None
    head = Bert(pretrained=str(bert_directory)).pretrained_mlm_head()
    for name, value in head.items():
        assert began.origins[f"mlm_head.{name}"][0] == "pretrained"
        assert_close(model.mlm_head.state_dict()[name], value)

"""Every published model is a recipe, builds without memory for its weights, and has exactly the recorded parameters."""

from __future__ import annotations

import json

import pytest
import torch

from x2kit.model.build import build_model, without_initialisation
from x2kit.recipe import read_recipe

from .conftest import REFERENCE
from .evidence import check

FILE = "keys/index.json"
INDEX = json.loads((REFERENCE / FILE).read_text())

RECIPES: dict[str, tuple[str, ...]] = {
    "xvlm_pretrain_base_224": ("x2vlm-base",),
    "xvlm_pretrain_large_224": ("x2vlm-large",),
    "xvlm_pretrain_base_224_video": ("x2vlm-base", "video"),
    "xvlm_pretrain_large_224_video": ("x2vlm-large", "video"),
    "cclm_pretrain_base_224": ("cclm-base",),
    "cclm_pretrain_large_224": ("cclm-large",),
    "xvlm_retrieval_base_384": ("x2vlm-base", "tasks/retrieval"),
    "xvlm_retrieval_large_384": ("x2vlm-large", "tasks/retrieval"),
    "xvlm_grounding_base_384": ("x2vlm-base", "tasks/grounding"),
    "xvlm_vqa_generation_base_768": ("x2vlm-base", "tasks/vqa-generation"),
    "xvlm_nlvr_base_384": ("x2vlm-base", "tasks/nlvr2"),
    "xvlm_vqa_classification_base_384": ("x2vlm-base", "tasks/vqa-classification"),
    "xvlm_captioning_base_384": ("x2vlm-base", "tasks/captioning"),
    "xvlm_captioning_large_384": ("x2vlm-large", "tasks/captioning"),
    "cclm_retrieval_base_384": ("cclm-base", "tasks/retrieval"),
    "xvlm1_swin_pretrain_base_224": ("xvlm-swin",),
    "xvlm1_swin_pretrain_base_384": ("xvlm-swin-384",),
    "xvlm1_clipvit_pretrain_base_224": ("xvlm-clip",),
}
"""The model's recipe in official/, and what of overlays/ is laid over it."""


def test_every_recorded_model_has_its_recipe() -> None:
    assert set(INDEX) <= set(RECIPES)


@pytest.mark.parametrize("name", INDEX)
def test_a_model_of_its_recipe_has_the_recorded_parameters(name: str) -> None:
    model, *overlays = RECIPES[name]
    recipe = read_recipe([f"official/{model}", *(f"overlays/{overlay}" for overlay in overlays)]).recipe
    with torch.device("meta"), without_initialisation():
        built = build_model(recipe.model, tokenizer=recipe.model.text.official_tokenizer(None))
    count = sum(parameter.numel() for parameter in built.parameters())
    check(FILE, f"{name}: parameters", count, INDEX[name]["n_parameters"])

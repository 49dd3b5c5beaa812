"""Overlays that exchange an encoder, laid over the shipped recipes."""

from __future__ import annotations

import pytest

from x2kit.cli.recipes import swaps
from x2kit.cli.recipes.swaps import every_swap, overlays_that_swap
from x2kit.recipe.catalogue import find


def test_an_overlay_swaps_an_encoder_if_it_names_a_class_and_no_published_weights() -> None:
    text = overlays_that_swap("text")
    assert {"overlays/xlmr", "overlays/text/deberta-v3"} <= set(text)
    assert not [name for name in text if name.startswith(("overlays/pretrained/", "overlays/vision/"))]
    assert all(name.startswith("overlays/fusion/") for name in overlays_that_swap("fusion"))


def test_every_overlay_is_laid_over_every_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("overlays/text/roberta", "overlays/xlmr", "pretrain/x2vlm-base-4m", "quickstart/english")
    monkeypatch.setattr(swaps, "shipped", lambda: [find(name) for name in names])
    found = {(swap.recipe, swap.overlay): swap for swap in every_swap("text")}
    assert set(found) == {(recipe, overlay) for recipe in names[2:] for overlay in names[:2]}
    facts = {pair: swap.resolved.facts for pair, swap in found.items() if swap.resolved}
    assert {pair: fact.text.width for pair, fact in facts.items() if fact} == {
        (recipe, overlay): 768 if recipe.startswith("pretrain") else 128 for recipe, overlay in found
    }

"""The shipped overlays, on a recipe of stubs and on every shipped recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from x2kit.errors import RecipeError
from x2kit.recipe import read_recipe
from x2kit.recipe.catalogue import is_overlay, shipped
from x2kit.recipe.reading import ResolvedRecipe
from x2kit.recipe.validation import losses_on

Write = Callable[[str, str], Path]
RECIPES = [str(file.name) for file in shipped() if not is_overlay(file)]
OVERLAYS = [str(file.name) for file in shipped() if is_overlay(file)]
TASKS = [name for name in OVERLAYS if name.startswith("overlays/tasks/")]
"""For the models of official/ alone."""
FUSION = [name for name in OVERLAYS if name.startswith("overlays/fusion/")]
FOR_ONE_TASK = [name for name in OVERLAYS if name.startswith(("overlays/iglue/", "overlays/translated/"))]
"""Other test files of a task of IGLUE, which fit its recipes alone."""
PRETRAINED = [name for name in OVERLAYS if name.startswith("overlays/pretrained/")]
"""They name published weights, which are checked where they have been downloaded."""

VISION_WIDTH = 768
"""Of every vision encoder in overlays/vision."""


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_has_a_description(overlay: str) -> None:
    from x2kit.recipe.catalogue import find, read_one

    description = read_one(find(overlay)).child("description")
    assert description is not None
    assert len(str(description.value)) > 20


def test_the_xlmr_overlay_swaps_the_text_encoder_and_its_head(write: Write) -> None:
    recipe = read_recipe(["good.yaml", "overlays/xlmr"]).recipe
    assert recipe.model.text.component_name() == "XLMRoberta"
    assert (recipe.model.heads.tie_mlm, recipe.model.heads.mlm_layer_norm_eps) == (False, 1e-5)


def test_the_small_overlays_change_training_alone(write: Write) -> None:
    before = read_recipe(["good.yaml"]).recipe
    for overlay in ("overlays/bf16", "overlays/debug"):
        after = read_recipe(["good.yaml", overlay]).recipe
        assert after.training != before.training
        assert (after.model, after.evaluation, after.data) == (before.model, before.evaluation, before.data)


def has_all_heads(resolved: ResolvedRecipe) -> bool:
    """Whether the model can learn all that the built-in data has."""
    return {"itc", "itm", "mlm", "bbox"} <= set(resolved.recipe.model.heads.built)


@pytest.mark.slow
def test_every_shipped_recipe_validates_alone_and_under_each_overlay() -> None:
    swapped: set[Any] = set()
    for recipe in RECIPES:
        alone = read_recipe([recipe], checks="without data")
        needs = {
            "overlays/debug": bool(alone.recipe.data.streams),
            "overlays/built-in-data": has_all_heads(alone),
            # They need streams or a source of another file; the pages of docs/how-to on languages and domains have one.
            **dict.fromkeys(("overlays/without-streams", "overlays/new-languages", "overlays/domain"), False),
            # The other fusion encoders do not fuse a text with two images at once.
            **dict.fromkeys(FUSION, alone.recipe.model.fusion.images == 1),
        }
        for overlay in set(OVERLAYS) - set(TASKS) - set(PRETRAINED) - set(FOR_ONE_TASK):
            # An encoder is swapped once among recipes that are alike in all that it must fit.
            case = (overlay, fits(alone)) if is_swap(overlay) else (overlay, recipe)
            if needs.get(overlay, True) and case not in swapped:
                swapped.add(case)
                read_recipe([recipe, overlay], widths(overlay), checks="without data")


def is_swap(overlay: str) -> bool:
    return overlay.split("/")[1] in ("vision", "text", "fusion")


def fits(resolved: ResolvedRecipe) -> Any:
    """What of a recipe decides whether an encoder fits it."""
    streams = resolved.recipe.data.streams.values()
    of_streams = frozenset((stream.layout, stream.max_tokens, tuple(losses_on(stream))) for stream in streams)
    return (
        resolved.facts,
        of_streams,
        resolved.recipe.model.heads.model_dump_json(),
        resolved.recipe.model.fusion,
    )


def widths(overlay: str) -> list[tuple[str, int]]:
    """The text encoder is made as wide as swapped images."""
    return [("model.text.width", VISION_WIDTH)] if overlay.startswith("overlays/vision/") else []


@pytest.mark.parametrize("overlay", PRETRAINED)
def test_an_overlay_of_published_weights_names_them_for_images_and_texts(overlay: str) -> None:
    model = read_recipe(["pretrain/x2vlm-base-4m", overlay], checks="none").recipe.model
    assert any(getattr(part, "pretrained", None) for part in (model.vision, model.text))


@pytest.mark.parametrize("overlay", TASKS)
@pytest.mark.parametrize("model", ["x2vlm-base", "x2vlm-large", "cclm-base", "cclm-large"])
def test_a_task_overlay_fits_the_official_models(model: str, overlay: str) -> None:
    assert read_recipe([f"official/{model}", overlay]).facts is not None


def test_steps_without_a_stream_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"data\.streams: no stream for 6 "):
        read_recipe(["official/x2vlm-base", "overlays/debug"])

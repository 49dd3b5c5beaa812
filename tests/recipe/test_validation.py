from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from x2kit.errors import RecipeError
from x2kit.recipe import read_recipe
from x2kit.recipe.validation import Checks, validate

Write = Callable[[str, str], Path]


def refusals(*keys: tuple[str, Any], checks: Checks = "all") -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read_recipe(["good.yaml"], keys, checks=checks)
    return str(caught.value).splitlines()


def accepted(*keys: tuple[str, Any], checks: Checks = "all") -> None:
    read_recipe(["good.yaml"], keys, checks=checks)


def test_the_facts_of_the_model_are_known(write: Write) -> None:
    facts = read_recipe(["good.yaml"]).facts
    assert facts is not None
    assert (facts.vision.image.size, facts.vision.grid, facts.vision.width) == (32, (4, 4), 16)
    assert (facts.text.width, facts.text.max_length, facts.text.vocab_size) == (16, 40, None)
    assert (facts.fusion.width, facts.fusion.layers) == (16, 1)


def test_an_error_of_an_encoder_names_its_setting(write: Write) -> None:
    assert refusals(("model.vision.image_size", 33), ("model.fusion.heads", 3)) == [
        "command line: model.vision.init_args.image_size: must be a multiple of 8, found 33"
    ]
    assert refusals(("model.fusion.heads", 3)) == [
        "command line: model.fusion.init_args.heads: 3 heads do not divide the width 16"
    ]


def test_widths_may_differ_where_no_loss_makes_texts_a_context(write: Write) -> None:
    off = [(f"data.streams.parallel.losses.{loss}", 0) for loss in ("ttm", "tlm")]
    accepted(("model.text.width", 32), *off)
    accepted(("model.text.width", 32), ("data.streams.parallel", None))
    (first, _) = refusals(("model.text.width", 32), off[0])
    assert "has width 32, but model.vision has 16, and in data.streams.parallel tlm" in first


def test_context_positions_need_a_vision_width_divisible_by_4(write: Write) -> None:
    off = ("data.streams.parallel", None)
    accepted(("model.vision.width", 18), off)
    assert refusals(("model.vision.width", 18), ("model.heads.context_positions", 0.5), off) == [
        "command line: model.heads.context_positions: needs a vision width divisible by 4, found 18; "
        "set 0 or change model.vision"
    ]


def test_max_tokens_is_limited_by_the_text_encoder(write: Write) -> None:
    assert refusals(("data.streams.images.max_tokens", 41)) == [
        "command line: data.streams.images.max_tokens: the text encoder takes at most 40 tokens, found 41"
    ]


@pytest.mark.parametrize("stream", ["images", "regions", "parallel"])
def test_a_batch_of_one_is_refused_where_rows_are_compared(write: Write, stream: str) -> None:
    (message,) = refusals((f"data.streams.{stream}.batch_size", 1))
    losses = "ttc, ttm" if stream == "parallel" else "itc, itm"
    assert message == (
        f"command line: data.streams.{stream}.batch_size: should be 2 or more, found 1: {losses} compare a row "
        "with others of its batch"
    )


def test_a_batch_of_one_is_enough_for_masked_language_alone(write: Write) -> None:
    key = "data.streams.images"
    accepted((f"{key}.batch_size", 1), (f"{key}.losses.itc", 0), (f"{key}.losses.itm", 0))


def test_shared_images_need_an_image_text_stream_of_the_same_source(write: Write) -> None:
    assert refusals(("data.streams.regions.task.images_from", "imags")) == [
        "command line: data.streams.regions.task.init_args.images_from: no stream of images and texts is called "
        '"imags"; nearest: images',
        "  such streams: images",
    ]
    (message,) = refusals(("data.streams.regions.source.split", "more"))
    assert 'images_from: stream "images" has another source' in message
    assert "images_from: null" in message


def test_languages_must_be_those_of_the_source(write: Write) -> None:
    (evaluation, _) = refusals(("evaluation.languages", "[en, fr, no]"))
    assert evaluation == "command line: evaluation.languages: the source has no fr, no"
    (pivot, known) = refusals(("data.streams.parallel.task.pivot", "fr"))
    assert pivot == "command line: data.streams.parallel.task.init_args.pivot: the source has no fr"
    assert known == "  known: en, de, zh"


def test_the_pivot_must_be_one_of_the_languages_of_the_stream(write: Write) -> None:
    (message, known) = refusals(("data.streams.parallel.languages", "[de, zh]"))
    assert "parallel.task.init_args.pivot: the source has no en" in message
    assert known == "  known: de, zh"


def test_parallel_text_needs_two_languages(write: Write) -> None:
    (message,) = refusals(("data.streams.parallel.languages", "[en]"))
    assert message == (
        "command line: data.streams.parallel.languages: parallel text needs two or more languages, found en"
    )


def test_a_loss_must_be_active(write: Write) -> None:
    (message,) = refusals(*((f"data.streams.{name}.weight", 0) for name in ("images", "regions", "parallel")))
    assert message.endswith("data.streams: no loss is active; set the weight of one above 0")


def test_a_loss_that_stops_before_it_starts_is_off(write: Write) -> None:
    key = "data.streams.parallel.losses"
    accepted(("model.text.width", 32), (f"{key}.ttm", {"start": 0.5, "stop": 0.5}), (f"{key}.tlm", 0))


def test_evaluation_data_must_not_be_training_data(write: Write) -> None:
    (first, *rest) = refusals(("evaluation.split", "train"))
    assert first == (
        'good.yaml:30: evaluation.source: split "train" is what stream "images" is trained on; '
        "evaluate on other records"
    )
    assert len(rest) == 2


def test_the_source_of_a_task_is_checked_like_the_shared_one(write: Write) -> None:
    own = "evaluation.sources.retrieval"
    accepted((own, "Scenes"))
    (missing,) = refusals((own, {"class_path": "Scenes", "init_args": {"file": "gone.jsonl"}}))
    assert missing.endswith(f"{own}.init_args.file: not found: gone.jsonl")
    other = {"class_path": "Scenes", "init_args": {"more": ["a"]}}
    (trained,) = refusals(
        ("data.streams.parallel.source", other), (own, other), ("evaluation.split", "train")
    )[2:]
    assert own in trained
    assert 'what stream "parallel" is trained on' in trained


def test_colour_operations_need_colours(write: Write) -> None:
    off = [(f"data.streams.{name}.transform.augment_operations", 0) for name in ("images", "regions")]
    accepted(("model.vision.channels", 1), *off)
    (message,) = refusals(("model.vision.channels", 1), off[0])
    assert message.endswith(
        "data.streams.regions.transform.augment_operations: needs images with 3 channels, but "
        "model.vision takes 1; set 0"
    )


def test_a_component_that_fails_is_named_and_the_rest_is_still_checked(write: Write, good: str) -> None:
    stubs = Path("stubs.py").read_text()
    write("stubs.py", stubs.replace('return ("en", "de", "zh")', 'raise RuntimeError("no list")'))
    messages = refusals(("data.streams.images.max_tokens", 99))
    assert "good.yaml:15: data.streams.images.source: Scenes failed: RuntimeError: no list" in messages
    assert any("max_tokens" in message for message in messages)


def test_evaluation_does_not_need_the_training_data(write: Write) -> None:
    gone = ("data.streams.images.source.file", "gone.jsonl")
    assert len(refusals(gone, ("data.streams.regions.task.images_from", None))) == 1
    accepted(gone, checks="evaluation")
    assert len(refusals(("evaluation.source.file", "gone.jsonl"), checks="evaluation")) == 1
    accepted(("evaluation.source.file", "gone.jsonl"), checks="none")


def test_a_recipe_made_in_python_is_checked_without_places(write: Write) -> None:
    recipe = read_recipe(["good.yaml"], [("evaluation.split", "train")], checks="none").recipe
    with pytest.raises(RecipeError, match=r"^evaluation\.source: split"):
        validate(recipe)


DEEP_EYE = """
from x2kit.plugin import ImageSpec, VisionEncoderConfig, VisionFacts, hookimpl

class DeepEye(VisionEncoderConfig):
    means: int = 8

    def describe(self):
        image = ImageSpec(32, 8, (0.5,) * self.means, (0.5,) * 8, value_range=(0, 10000))
        return VisionFacts(image, 16, (4, 4))

    def build(self, assets=None):
        raise AssertionError("a weight is built")

@hookimpl
def x2kit_register(registry):
    registry.add(DeepEye)
"""


def test_images_of_numbers_take_geometric_augmentations_only(write: Write) -> None:
    write("deep.py", DEEP_EYE)
    eye: list[tuple[str, Any]] = [
        ("plugins", ["stubs.py", "deep.py"]),
        ("model.vision", "DeepEye"),
        ("data.streams.regions", None),
    ]
    key = "data.streams.images.transform"
    assert refusals(*eye)[0].endswith(
        f"{key}.augment_operations: needs images with 3 channels of 8 bits, but model.vision takes 8 of numbers "
        f"from 0 to 10000; set 0, or {key}.augment_colour: false to keep geometric operations"
    )
    accepted(*eye, (f"{key}.augment_colour", False))
    accepted(*eye, (f"{key}.augment_operations", 0))


def test_images_with_boxes_take_colour_augmentations_only(write: Write) -> None:
    key = "data.streams.images.transform"
    (message,) = refusals((f"{key}.augment_colour", False))
    assert message == (
        f"command line: {key}.augment_colour: images with boxes get colour operations only, so "
        f"none remain; set {key}.augment_operations: 0"
    )
    accepted((f"{key}.augment_colour", False), (f"{key}.augment_operations", 0))


def test_an_encoder_with_an_invalid_image_spec_is_refused(write: Write) -> None:
    write("deep.py", DEEP_EYE)
    message, *_ = refusals(
        ("plugins", ["stubs.py", "deep.py"]),
        ("model.vision", {"class_path": "DeepEye", "init_args": {"means": 3}}),
    )
    assert message.endswith(
        "model.vision: DeepEye declares invalid images: image.mean needs one number for each of 8 channels, found 3"
    )


VALIDATED = ("evaluation.every", 5), ("evaluation.select", "retrieval.mean_all")


def test_a_recipe_can_validate_and_select(write: Write) -> None:
    accepted(*VALIDATED, ("evaluation.patience", 3))
    accepted(*VALIDATED, ("evaluation.select_on", "official"))
    accepted(*VALIDATED, ("evaluation.select", "retrieval.languages.en.r1"))
    accepted(*VALIDATED, ("evaluation.select_source", "Scenes"), ("evaluation.select_source.split", "val"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            [("evaluation.select", "retrieval.mean_all")],
            "evaluation.select: needs the steps between validations",
        ),
        ([("evaluation.every", 5), ("evaluation.patience", 2)], "evaluation.patience: needs the metric"),
        ([*VALIDATED, ("evaluation.select", "mean_all")], "should be TASK.METRIC, found 'mean_all'"),
        ([*VALIDATED, ("evaluation.select", "retrival.r")], "should be TASK.METRIC, found 'retrival.r'"),
        ([*VALIDATED, ("evaluation.select", "retrieval.mean")], "task retrieval has no metric 'mean'"),
        (
            [*VALIDATED, ("evaluation.select_on", "train")],
            'select_on: split "train" is what stream "images" is',
        ),
        (
            [*VALIDATED, ("evaluation.select_source", "Scenes")],
            'select_source: split "validation" is what stream',
        ),
        (
            [
                *VALIDATED,
                ("evaluation.select_on", "official"),
                ("evaluation.select_source.class_path", "Scenes"),
            ],
            "select_source: set it or select_on: official, not both",
        ),
    ],
)
def test_a_wrong_key_of_validation_is_refused(
    write: Write, keys: list[tuple[str, Any]], message: str
) -> None:
    assert message in refusals(*keys)[0]


def test_weights_are_evaluated_whatever_selected_them(write: Write) -> None:
    accepted(("evaluation.select", "gone.mean_all"), checks="evaluation")

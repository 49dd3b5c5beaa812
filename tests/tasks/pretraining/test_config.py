"""Pretraining by a plugin: rows of its own, with the losses of the paper."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.data.stubs import drawn, stream
from tests.model import tiny
from x2kit.data.config import DataConfig
from x2kit.data.pipeline.loader import StepBatches
from x2kit.errors import DataError, PluginError
from x2kit.model import X2VLM
from x2kit.model.build import build_model
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.plugin import (
    STEP_LOSSES,
    ImageSpec,
    Pretraining,
    PretrainingConfig,
    Reader,
    Record,
    RowLayout,
    TaskRow,
)
from x2kit.tasks import ImageText, RegionText, VideoText
from x2kit.training.step.losses import step_losses

SPEC = ImageSpec(size=16)


class Titled(PretrainingConfig):
    """Align an image with the names of its regions, written as a title."""

    prefix: str = "a scene of"

    def build(self) -> Pretraining:
        return DrawTitled(self)


class DrawTitled(Pretraining):
    """Draw a row of the names."""

    config: Titled

    def draw(self, record: Record, reader: Reader) -> TaskRow:
        names = [reader.text(region["caption"]) for region in record["regions"]]
        return TaskRow([reader.image(record["image"])], [" ".join([self.config.prefix, *names])])


class Copied(PretrainingConfig):
    """Draw the rows of ImageText."""

    def build(self) -> Pretraining:
        return ImageText().build()


@pytest.fixture(scope="module")
def model() -> X2VLM:
    torch.manual_seed(0)
    heads = HeadsConfig(embed_dim=6)
    return build_model(
        ModelConfig(vision=tiny.TinyVision(), text=tiny.TinyText(), fusion=tiny.TinyFusion(), heads=heads)
    )


def losses(model: X2VLM, task: PretrainingConfig) -> dict[str, torch.Tensor]:
    """The losses of a step of one stream."""
    data = DataConfig(streams={"own": stream(task, max_tokens=8)})
    batch = StepBatches(data, model.tokenizer, model.image_spec, seed=0, steps=1).batch(0)
    torch.manual_seed(1)
    return step_losses(model, batch, {"own": task.losses})["own"]


def test_a_plugin_gets_the_losses_of_the_paper_for_rows_of_its_own(model: X2VLM) -> None:
    found = losses(model, Titled())
    assert list(found) == ["itc", "itm", "mlm"]
    assert all(bool(loss.isfinite()) and loss.requires_grad for loss in found.values())
    assert found["itc"] != losses(model, Titled(prefix="the"))["itc"]


def test_rows_of_a_plugin_take_the_path_of_those_of_x2kit(model: X2VLM) -> None:
    assert losses(model, Copied()) == losses(model, ImageText())


def test_a_plugin_may_ask_for_some_of_the_losses(model: X2VLM) -> None:
    class Contrasted(Titled):
        losses: ClassVar[tuple[str, ...]] = ("itc",)

    assert list(losses(model, Contrasted())) == ["itc"]


def test_losses_that_the_layout_does_not_have_are_refused() -> None:
    class Boxed(Titled):
        losses: ClassVar[tuple[str, ...]] = ("itc", "giou")

    with pytest.raises(
        ValidationError, match=r"Boxed asks for the losses giou; .* layout images .* itc, itm, mlm"
    ):
        stream(Boxed())


@pytest.mark.parametrize(
    ("layout", "row", "said"),
    [
        ("images", TaskRow([], ["a"]), "0 images and 1 texts does not fit its layout images"),
        ("images", TaskRow([[]], ["a"]), "a video with videos False does not fit"),
        ("boxes", TaskRow([0], ["a"]), "without a bbox .* for each of 1 texts"),
        ("parallel", TaskRow([], ["a", "b"]), "without the languages of both texts"),
        ("texts", TaskRow([], ["a", "b"]), "0 images and 2 texts"),
    ],
)
def test_a_row_of_another_layout_names_the_task(layout: RowLayout, row: TaskRow, said: str) -> None:
    class Wrong(PretrainingConfig):
        losses: ClassVar[tuple[str, ...]] = STEP_LOSSES[layout]

        def build(self) -> Pretraining:
            return _Gives(self)

    class _Gives(Pretraining):
        def draw(self, record: Record, reader: Reader) -> TaskRow:
            return row

    Wrong.layout = layout
    with pytest.raises(PluginError, match=f"task Wrong: .*{said}"):
        drawn(Record(), stream(Wrong()), SPEC, np.random.default_rng(0))


def test_pretraining_is_not_measured() -> None:
    context: Any = None
    with pytest.raises(DataError, match="Titled is pretraining and is not measured"):
        Titled().check(context)


def test_limits_of_evaluation_are_no_settings_of_pretraining() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        ImageText(max_words=3)  # type: ignore[call-arg]


def test_larger_batches_have_more_images() -> None:
    assert RegionText(max_images=4).scaled(3).max_images == 12
    assert RegionText().scaled(3) == RegionText()
    assert VideoText().scaled(3) == VideoText()

"""Settings of the streams of pretraining. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field

from x2kit.plugin.tasks import STEP_LOSSES, PretrainingConfig, RowLayout

if TYPE_CHECKING:
    from x2kit.plugin.tasks import Pretraining


class ImageText(PretrainingConfig):
    """Align images with texts: contrastive, matching and masked-language losses (X-VLM, arXiv:2111.08276).

    Records have an image and a caption.
    """

    def build(self) -> Pretraining:
        from x2kit.tasks.pretraining.samples import DrawImageText

        return DrawImageText(self)


class RegionText(PretrainingConfig):
    """Align boxes with texts, and predict the box of a text (X-VLM, arXiv:2111.08276; X²-VLM, arXiv:2211.12402).

    Records have an image and regions, each with a bbox and a caption; also a caption, unless another stream has it.
    """

    layout: ClassVar[RowLayout] = "boxes"
    losses: ClassVar[tuple[str, ...]] = STEP_LOSSES["boxes"]

    images_from: str | None = Field(
        None,
        description="use the images drawn by this ImageText stream, so that each is decoded and encoded once for both; "
        "both streams must have the same source",
    )
    max_images: int | None = Field(
        None,
        gt=0,
        description="images per step, of whose texts batch_size are kept at random; null for 50 images for 128 rows, "
        "as in the paper",
    )
    max_regions: int = Field(5, gt=0, description="maximum number of texts per image")
    max_boxes: int = Field(1000, gt=0, description="a record with more boxes counts as broken")

    @property
    def image_stream(self) -> str | None:
        """The stream of `images_from`."""
        return self.images_from

    def records(self, rows: int, block: int) -> int:
        """Images per step: `max_images`, or in proportion to the rows."""
        blocks = -(-rows * 50 // (128 * block))  # rounded up; in integers, as a float has a largest value
        return self.max_images or blocks * block

    def scaled(self, factor: int) -> Self:
        """Multiply `max_images`."""
        return self.model_copy(update={"max_images": self.max_images and self.max_images * factor})

    def build(self) -> Pretraining:
        from x2kit.tasks.pretraining.samples import DrawRegionText

        return DrawRegionText(self)


class VideoText(PretrainingConfig):
    """Align videos with texts, with the losses of images (X²-VLM, arXiv:2211.12402, section 3.4).

    Records have a video and a caption. Of a video in clips, each with a caption, one clip is drawn.
    """

    videos: ClassVar[bool] = True

    min_clip_frames: int = Field(
        8,
        gt=0,
        description="consecutive clips are joined until they have this many frames to sample from",
    )

    def build(self) -> Pretraining:
        from x2kit.tasks.pretraining.samples import DrawVideoText

        return DrawVideoText(self)


class ParallelText(PretrainingConfig):
    """Align texts of equal meaning in two languages (CCLM, arXiv:2206.00621).

    Records have texts by language code.
    """

    layout: ClassVar[RowLayout] = "parallel"
    losses: ClassVar[tuple[str, ...]] = STEP_LOSSES["parallel"]

    pivot: str | None = Field(None, description="a language on one side of every pair; null draws both sides")

    @property
    def required_languages(self) -> tuple[str, ...]:
        """The pivot, if there is one."""
        return () if self.pivot is None else (self.pivot,)

    def build(self) -> Pretraining:
        from x2kit.tasks.pretraining.samples import DrawParallelText

        return DrawParallelText(self)


class PlainText(PretrainingConfig):
    """Predict masked tokens of texts without images.

    Records have a caption. Texts keep their punctuation.
    """

    layout: ClassVar[RowLayout] = "texts"
    losses: ClassVar[tuple[str, ...]] = STEP_LOSSES["texts"]

    def build(self) -> Pretraining:
        from x2kit.tasks.pretraining.samples import DrawPlainText

        return DrawPlainText(self)

"""Draw the rows of pretraining from records. Imports torch.

The order of the random draws is part of the format of a run: another order changes every later batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from x2kit.data.media.clips import draw_clip
from x2kit.data.media.videos import is_clips
from x2kit.data.pipeline.samples import field, regions_of
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Record, Region
from x2kit.plugin.tasks import Pretraining, Reader, TaskRow

if TYPE_CHECKING:
    from x2kit.tasks.pretraining.config import ParallelText, RegionText, VideoText


class DrawImageText(Pretraining):
    """Draw an image and one of its texts."""

    def draw(self, record: Record, reader: Reader) -> TaskRow:
        """Draw a row. Raises DataError for a missing field, an unreadable image, or an empty text."""
        text = reader.text(field(record, "caption"))
        return TaskRow([reader.image(field(record, "image"))], [text])


class DrawRegionText(Pretraining):
    """Draw an image cropped around one of its regions, and texts of the regions in the crop (X²-VLM, pre-training)."""

    config: RegionText

    def draw(self, record: Record, reader: Reader) -> TaskRow:
        """Draw a row of the record's caption, if no other stream has it, and of up to `max_regions` texts.

        Raises: DataError for a missing field, an unreadable image, an invalid box, a text that is empty after
            cleaning, and a record without any text.
        """
        regions = self._regions(record)
        order = reader.rng.permutation(len(regions)).tolist()
        boxes = [field(region, "bbox") for region in regions]
        view = reader.view(field(record, "image"), boxes, order[0] if order else None)
        texts: list[str] = []
        bbox: list[tuple[float, ...] | None] = []
        if not view.shared and "caption" in record:
            texts.append(reader.text(record["caption"]))
            bbox.append(None)
        elif not view.shared and not regions:
            raise DataError("the record has neither regions nor a caption", reason=Reason.FIELD_MISSING)
        for number in order:
            if len(texts) >= self.config.max_regions:
                break
            if view.bbox[number] is not None:
                texts.append(reader.text(field(regions[number], "caption")))
                bbox.append(view.bbox[number])
        return TaskRow([] if view.shared else [view.pixels()], texts, {"bbox": bbox})

    def _regions(self, record: Record) -> list[Region]:
        regions = regions_of(record)
        if len(regions) > self.config.max_boxes:
            raise DataError(
                f"the record has {len(regions)} boxes, more than max_boxes = {self.config.max_boxes}",
                reason=Reason.BOXES_TOO_MANY,
            )
        return regions


class DrawVideoText(Pretraining):
    """Draw a frame from each of equal segments of a video, and one text (X²-VLM, second stage)."""

    config: VideoText

    def draw(self, record: Record, reader: Reader) -> TaskRow:
        """Draw a row of a record with `video` and `caption`, and `is_continuous` if the video is a list of clips.

        Raises: DataError for a missing field, an unreadable video or one without frames, clips without a caption each,
            and a text that is empty after cleaning.
        """
        video, caption = field(record, "video"), field(record, "caption")
        if is_clips(video):
            continuous = record.get("is_continuous", False)
            if not isinstance(continuous, bool):
                raise DataError(
                    f"is_continuous must be true or false, found {continuous!r}", reason=Reason.FIELD_TYPE
                )
            video, caption = draw_clip(video, caption, continuous, self.config.min_clip_frames, reader.rng)
        text = reader.text(caption)
        return TaskRow([reader.video(video)], [text])


class DrawParallelText(Pretraining):
    """Draw two texts of a record in different languages, in random order (CCLM, arXiv:2206.00621)."""

    config: ParallelText

    def draw(self, record: Record, reader: Reader) -> TaskRow:
        """Draw a row of the pivot and another language, or of any two.

        Raises: DataError if the record lacks two such languages, or a text is empty after cleaning.
        """
        rng, pivot = reader.rng, self.config.pivot
        texts = field(record, "texts")
        if not isinstance(texts, dict):
            raise DataError(f"texts must be {{code: text}}, found {texts!r}", reason=Reason.FIELD_TYPE)
        allowed = [code for code in texts if reader.languages is None or code in reader.languages]
        others = [code for code in allowed if code != pivot]
        if len(allowed) < 2 if pivot is None else pivot not in texts or not others:
            needed = "two of" if pivot is None else f"{pivot} and another of"
            raise DataError(
                f"the record has texts in {', '.join(texts) or 'no language'}; needed are {needed} "
                f"{', '.join(reader.languages or ()) or 'any language'}",
                reason=Reason.LANGUAGE_MISSING,
            )
        if pivot is not None:
            codes = [pivot, others[int(rng.random() * len(others))]]
        else:
            codes = [allowed[number] for number in rng.permutation(len(allowed))[:2].tolist()]
        if rng.random() < 0.5:
            codes.reverse()
        return TaskRow([], [reader.text(texts[code]) for code in codes], {"languages": tuple(codes)})


class DrawPlainText(Pretraining):
    """Draw a text without an image."""

    def draw(self, record: Record, reader: Reader) -> TaskRow:
        """Draw a row. Raises DataError for a missing caption, or one that is empty after cleaning."""
        return TaskRow([], [reader.text(field(record, "caption"))])

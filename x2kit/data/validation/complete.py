"""Check every field of a record that an evaluation may read. Imports torch.

An evaluation does not skip broken records, as that would change the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from x2kit.data.media.images import ImageLike
from x2kit.data.pipeline.samples import field
from x2kit.data.pipeline.task_rows import EvaluationReader
from x2kit.data.pipeline.video_samples import read_video
from x2kit.data.sources.fields import (
    check_answers,
    check_detections,
    check_label,
    check_options,
    check_pair,
    check_text,
)
from x2kit.data.transforms.boxes import read_boxes
from x2kit.data.transforms.text import all_texts, clean, texts_of_languages
from x2kit.errors import DataError, Reason
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.sources import Record
from x2kit.plugin.tasks import Task


def require_complete(record: Record, spec: ImageSpec) -> None:
    """Read images, texts, boxes and fields of tasks. Raises DataError for the first that is missing or invalid."""
    size = _require_media(record, spec)
    for text in all_texts(record.get("caption") or []):
        clean(text)
    regions = record.get("regions") or []
    if regions and size is not None:
        read_boxes([field(region, "bbox") for region in regions], size)
    for region in regions:
        for text in all_texts(field(region, "caption")):
            clean(text)
    require_task_fields(record, size)


def require_task_fields(record: Record, size: tuple[int, int] | None) -> None:
    """Check question, answers, options, label, premise and detections as far as the record has them.

    Args:
        record: from any source, a plugin's included.
        size: width and height of its image in pixels, if it has one.
    Raises: DataError that names the field.
    """
    for text in all_texts(_checked_text(record, "question")):
        clean(text)
    _checked_text(record, "premise")
    if "answers" in record and check_answers(record["answers"], "answers") is None:
        raise DataError("answers: none; leave the field out if there are none", reason=Reason.FIELD_MISSING)
    if "label" in record:
        check_label(record["label"], "label")
    if "options" in record:
        check_options(record["options"], "options", None)
        label = record.get("label")
        if type(label) is int and not 0 <= label < len(record["options"]):
            raise DataError(
                f"label: the record has {len(record['options'])} options, numbered from 0; found {label}",
                reason=Reason.FIELD_TYPE,
            )
    if "detections" in record:
        check_detections(record["detections"], "detections", size)


def require_measurable(task: Task, record: Record, spec: ImageSpec) -> None:
    """Draw the row of an evaluation in each language of a record. Raises DataError if the task cannot."""
    question, caption = record.get("question") or [], record.get("caption") or []
    codes = {code for text in (question, caption) for code, _ in texts_of_languages(text, None)}
    reader = EvaluationReader(spec, 1, task.config.max_words)
    for code in codes or {""}:
        reader.language = code
        try:
            with component_faults(task.config):
                task.draw(record, reader)
        except DataError as error:
            if error.reason != Reason.LANGUAGE_MISSING:
                raise


def images_of(record: Record) -> Iterator[Any]:
    """Yield the image, or both images, of a record; none of a video."""
    if record.get("image") is not None:
        yield record["image"]
    yield from record.get("images") or []


def _require_media(record: Record, spec: ImageSpec) -> tuple[int, int] | None:
    """Decode the image, both images or a frame. Returns: width and height of a single image in pixels."""
    if "video" in record:
        read_video(record["video"], 1, spec)
        return None
    pair = check_pair(record["images"], "images") if "images" in record else [field(record, "image")]
    sizes = []
    for one in pair:
        image = ImageLike(one, spec.channels, spec.value_range)
        image.load()
        sizes.append(image.size)
    return None if "images" in record else sizes[0]


def _checked_text(record: Record, name: str) -> Any:
    value = dict(record).get(name)
    return [] if value is None else check_text(value, name, None)

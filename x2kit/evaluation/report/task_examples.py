"""Draw right and wrong predictions of tasks that are measured row by row. Imports torch."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from x2kit.data.pipeline.task_rows import EvaluationReader
from x2kit.data.transforms.view import Pixels
from x2kit.evaluation.report.markup import Markup, join, tag
from x2kit.evaluation.report.page import Section
from x2kit.evaluation.report.probe import PartOfSource
from x2kit.evaluation.report.visible import visible_unit
from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.components import TaskConfig
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.sources import Source
from x2kit.plugin.tasks import Prediction, TaskRow
from x2kit.tasks.rows import draw_rows, predict_rows

EACH = 4
"""Right and wrong examples of each language."""
FRAMES = 4
"""Frames that are drawn of a video."""


class Example(NamedTuple):
    """A row with its prediction; `right` is None for predictions that are graded."""

    row: TaskRow
    prediction: Prediction
    right: bool | None


def task_section(
    name: str, config: TaskConfig, model: X2VLM, source: Source, codes: Sequence[str], batch_size: int
) -> Section | None:
    """Draw examples of a task in some languages; None without any.

    Args:
        name: of the task in the recipe.
        config: of a task that is measured row by row.
        model: in evaluation mode.
        source: records of the split.
        codes: languages.
        batch_size: records of a pass.
    """
    found = find_examples(config, model, PartOfSource(source), codes, batch_size)
    drawn = [
        join(tag("h3", code), tag("div", [_card(one, model.image_spec) for one in of_code], class_="scenes"))
        for code, of_code in found.items()
        if of_code
    ]
    about = (
        f"The first right and the first wrong predictions, up to {EACH} each, among {min(len(source), 500):,} evenly "
        f"spaced records of the {len(source):,}, whatever the share of either."
    )
    return Section(f"task-{name}", f"Examples: {name}", about, join(drawn)) if drawn else None


def find_examples(
    config: TaskConfig, model: X2VLM, source: Source, codes: Sequence[str], batch_size: int
) -> dict[str, list[Example]]:
    """Predict records until each language has right and wrong examples, or the records end."""
    task = config.build()
    reader = EvaluationReader(model.image_spec, model.frames, config.max_words, only=len(codes) == 1)
    kinds: dict[str, dict[bool | None, list[Example]]] = {code: {} for code in codes}
    positions = iter(range(len(source)))
    while batch := list(islice(positions, batch_size)):
        records = [source[index] for index in batch]
        ids = [str(record.get("id", index)) for index, record in zip(batch, records, strict=True)]
        rows = {code: draw_rows(task, records, ids, reader, code) for code in codes}
        for code, predictions in predict_rows(task, model, rows).items():
            for (_, row), prediction in zip(rows[code], predictions, strict=True):
                right = task.correct(prediction)
                of_kind = kinds[code].setdefault(right, [])
                if len(of_kind) < EACH:
                    of_kind.append(Example(row, prediction, right))
        reader.forget()
        if all(_is_complete(of_code) for of_code in kinds.values()):
            break
    return {
        code: [one for examples in of_code.values() for one in examples] for code, of_code in kinds.items()
    }


def _is_complete(kinds: Mapping[bool | None, Sequence[Example]]) -> bool:
    wanted: tuple[bool | None, ...] = (None,) if None in kinds else (True, False)
    return all(len(kinds.get(kind, ())) == EACH for kind in wanted)


def _card(example: Example, spec: ImageSpec) -> Markup:
    mark = {True: "✓", False: "✗", None: ""}[example.right]
    return tag(
        "figure",
        [_image(image, spec) for image in example.row.images],
        tag(
            "figcaption",
            [tag("div", text, dir="auto") for text in example.row.texts],
            tag("div", tag("b", f"{mark} {_shown(example.prediction.value)}".strip())),
            tag("div", f"truth: {_shown(example.prediction.truth)}", class_="quiet"),
        ),
        class_="scene",
    )


def _image(image: Pixels | list[Pixels], spec: ImageSpec) -> Markup:
    frames = image[:: max(1, len(image) // FRAMES)][:FRAMES] if isinstance(image, list) else [image]
    return tag("div", [tag("img", src=_address(frame, spec), alt="") for frame in frames], class_="frames")


def _address(pixels: Pixels, spec: ImageSpec) -> str:
    """Encode an image [S, S, C], uint8 or float in [0, 1], as a data URL."""
    unit = pixels / np.float32(255) if pixels.dtype.kind == "u" else pixels
    seen = visible_unit(unit.astype(np.float32), spec)
    seen.thumbnail((192, 192), Image.Resampling.LANCZOS)
    packed = io.BytesIO()
    seen.save(packed, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(packed.getvalue()).decode('ascii')}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:117]}…"

"""Every task and head of x2kit keeps the contract, on sample records of its kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from x2kit.plugin.components import ComponentConfig
from x2kit.plugin.loading.manager import load_plugins
from x2kit.tasks import (
    VQA,
    AnswerClassification,
    Captioning,
    Classification,
    Grounding,
    ImageText,
    LinearHead,
    MultipleChoice,
    ParallelText,
    PlainText,
    RegionText,
    Retrieval,
    TextAssignment,
    VideoText,
    WeakGrounding,
)
from x2kit.testing import Check, checks

COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220), "white": (250, 250, 250)}
ANSWERS = ("red", "green", "blue", "yes", "no")


def image(colour: str) -> Any:
    return np.full((24, 24, 3), COLOURS[colour], np.uint8)


def records(**fields: Callable[[int, str], Any]) -> list[dict[str, Any]]:
    """One record for each colour, with fields that are functions of its number and colour."""
    return [
        {"id": str(number), **{name: field(number, colour) for name, field in fields.items()}}
        for number, colour in enumerate(COLOURS)
    ]


def question(number: int, colour: str) -> dict[str, str]:
    return {
        "en": ("what colour is it", "which one", "is it red", "of what colour is the square here")[number]
    }


def caption(number: int, colour: str) -> dict[str, str]:
    return {"en": f"a{' very' * number} {colour} square on a table"}


ASKED = records(
    image=lambda number, colour: image(colour),
    question=question,
    answers=lambda number, colour: [colour] * 8 + ["yes", "no"],
)
ONE_ANSWER = [{**record, "answers": record["answers"][:1]} for record in ASKED]
FILMED = [
    {**{name: value for name, value in record.items() if name != "image"}, "video": [record["image"]] * 3}
    for record in ONE_ANSWER
]
CHOSEN = records(
    image=lambda number, colour: image(colour),
    question=question,
    options=lambda number, colour: [{"en": answer} for answer in ANSWERS],
    label=lambda number, colour: number,
)
CAPTIONED = records(image=lambda number, colour: image(colour), caption=caption)
LABELLED = [{**record, "label": bool(number % 2)} for number, record in enumerate(CAPTIONED)]
PAIRED = records(
    images=lambda number, colour: [image(colour), image("red")],
    caption=caption,
    label=lambda number, colour: number == 0,
)
BOXED = records(
    image=lambda number, colour: image(colour),
    caption=caption,
    regions=lambda number, colour: [
        {"bbox": [side, 0, 8, 12], "caption": {"en": f"{colour} part"}} for side in range(0, 4 * number, 4)
    ],
)
TRANSLATED = records(texts=lambda number, colour: {"en": f"a {colour} square", "de": f"quadrat {number}"})
TRUTH = (False, True)
SEEN = Path(__file__).parent / "captions_seen.json"
"""Captions in which the CIDEr stage counts document frequencies."""
NO_HEADS: dict[str, Any] = {"built": []}
ANSWER_HEAD = {**NO_HEADS, "answers": len(ANSWERS)}

TASKS: list[tuple[ComponentConfig, dict[str, Any]]] = [
    (
        VQA(answer_list=ANSWERS, top_k=3),
        {
            "records": ASKED,
            "heads": {**NO_HEADS, "decoder_layers": 1},
            "perfect": list(COLOURS),
            "best": 1.0,
        },
    ),
    (
        VQA(metric="exact", num_beams=2, max_answer_tokens=5),
        {
            "records": ONE_ANSWER,
            "heads": {**NO_HEADS, "decoder_layers": 1},
            "perfect": list(COLOURS),
            "best": 1.0,
        },
    ),
    (
        AnswerClassification(answer_list=ANSWERS),
        {"records": ONE_ANSWER, "heads": ANSWER_HEAD, "perfect": list(COLOURS)},
    ),
    (
        AnswerClassification(answer_list=ANSWERS, average="all"),
        {"records": FILMED, "heads": {**ANSWER_HEAD, "frames": 2}, "perfect": list(COLOURS)},
    ),
    (MultipleChoice(), {"records": CHOSEN, "heads": {"built": ["itm"]}}),
    (Classification(classes=TRUTH), {"records": LABELLED, "heads": {**NO_HEADS, "answers": 2}}),
    (
        Classification(classes=TRUTH, images=2),
        {"records": PAIRED, "heads": {**NO_HEADS, "answers": 2, "answer_images": 2}},
    ),
    (
        Classification(classes=TRUTH, images=2, fused="together"),
        {"records": PAIRED, "heads": {**NO_HEADS, "answers": 2}},
    ),
    *(
        (
            Captioning(form=form, min_length=2, max_length=8, num_beams=2),
            {
                "records": CAPTIONED,
                "heads": {"built": ["mlm"]},
                "perfect": [record["caption"]["en"] for record in CAPTIONED],
            },
        )
        for form in ("insert", "replace", "causal")
    ),
    (
        Captioning(
            form="causal",
            objective="cider",
            frequencies=str(SEEN),
            sample_length=6,
            min_length=2,
            max_length=8,
        ),
        {
            "records": CAPTIONED,
            "heads": {"built": ["mlm"]},
            "perfect": [record["caption"]["en"] for record in CAPTIONED],
            "samples": True,
        },
    ),
    (
        TextAssignment(),
        {
            "records": CAPTIONED,
            "heads": {"built": ["itc"], "extra": {"assignment": LinearHead(outputs=3)}},
        },
    ),
    (ImageText(), {"records": CAPTIONED}),
    (RegionText(max_regions=2), {"records": BOXED}),
    (
        VideoText(),
        {"records": [{**record, "caption": {"en": "a"}} for record in FILMED], "heads": {"frames": 2}},
    ),
    (ParallelText(), {"records": TRANSLATED}),
    (PlainText(), {"records": CAPTIONED}),
    (Retrieval(), {}),
    (Grounding(), {}),
    (WeakGrounding(), {}),
    (LinearHead(outputs=3), {}),
]
CASES = [
    pytest.param(component, options, check, id=f"{number}-{component.component_name()}-{check.__name__}")
    for number, (component, options) in enumerate(TASKS)
    for check in checks(component.kind)
]


@pytest.mark.parametrize(("component", "options", "check"), CASES)
def test_it_keeps_the_contract(component: ComponentConfig, options: dict[str, Any], check: Check) -> None:
    check(component, **options)


def test_every_task_and_head_is_checked() -> None:
    registered = {
        entry.component
        for entry in load_plugins().registry
        if entry.component.kind in ("task", "head") and entry.distribution.startswith("x2kit ")
    }
    assert registered == {type(component) for component, _ in TASKS}

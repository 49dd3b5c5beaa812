"""Losses equal the recorded ones, in float32 against the official float32 and float64 values."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from x2kit.data.pipeline.batch import Batch, TextRows
from x2kit.objectives import contrastive_logits, itc_loss

from .conftest import REFERENCE, image_batch, masked_of, record, region_batch, texts_of
from .evidence import check
from .steps import Losses, all_losses, losses_of, negatives_of, video_losses

SINGLE_LOSS = 1e-5
TOTAL = 1e-4
"""As losses over the steps of training, which are sums as well."""


def image(which: str) -> Losses:
    recording = record(which)
    batch = recording.tensors("image_batch")
    return losses_of(recording.model, image_batch(batch), {"image": negatives_of("image", batch, "in.")})[
        "image"
    ]


def region(which: str, all_count: bool = False) -> Losses:
    recording = record(which)
    batch = recording.tensors("region_batch")
    step = region_batch(batch, all_count)
    return losses_of(recording.model, step, {"region": negatives_of("region", batch, "in.")})["region"]


def parallel(which: str) -> Losses:
    """From a step of all streams, in which the texts of the others go through the encoders with these."""
    found = all_losses(record(which))
    return {
        name.removeprefix("para_text."): value
        for name, value in found.items()
        if name.startswith("para_text.")
    }


def text_only(which: str) -> Losses:
    recording = record(which)
    batch = recording.tensors("image_batch")
    step = Batch(0, None, {"text_only": TextRows(texts_of(batch), masked_of(batch))}, {}, [])
    return losses_of(recording.model, step, {})["text_only"]


def retrieval_finetune(which: str) -> Losses:
    """Fine-tuning for retrieval: two losses, and rows of one image or text are right answers to each other."""
    recording = record(which)
    batch = recording.tensors("image_batch")
    step = image_batch(batch)
    rows = step.streams["image"]._replace(group=batch["out.itc_idx"])  # type: ignore[call-arg]
    negatives = {"image": negatives_of("image", batch, "in.")}
    step = step._replace(streams={"image": rows})
    return losses_of(recording.model, step, negatives, {"image": ("itc", "itm")})["image"]


SECTIONS: dict[str, Callable[[str], Losses]] = {
    "image": image,
    "text_only": text_only,
    "region": region,
    "region_no_is_image": lambda which: region(which, all_count=True),
    "para_text": parallel,
    "video": lambda which: video_losses()[1],
    "retrieval_finetune": retrieval_finetune,
}


def contrastive_with_labels(which: str) -> torch.Tensor:
    recording = record(which)
    batch = recording.tensors("image_batch")
    model = recording.model
    image = model.project_images(model.encode_images(batch["in.image"]).summary)
    text = model.project_texts(model.encode_texts(*texts_of(batch)))
    return itc_loss(contrastive_logits(image, text, model.temperature), batch["out.itc_idx"])


ALONE: dict[str, tuple[Callable[[str], torch.Tensor], float]] = {
    "loss_itc_idx": (contrastive_with_labels, SINGLE_LOSS),
    "total": (lambda which: torch.stack(list(all_losses(record(which)).values())).sum(), TOTAL),
}

RECORDED = {
    which: {
        kind: json.loads((REFERENCE / which / "losses.json").read_text())[kind]
        for kind in ("losses", "losses_float64")
    }
    for which in ("xvlm", "cclm")
}
SECTIONED = sorted(
    {
        (which, name.partition(".")[0])
        for which in RECORDED
        for name in RECORDED[which]["losses"]
        if "." in name
    }
)


@pytest.mark.parametrize(("which", "section"), SECTIONED)
def test_losses_of_a_section(which: str, section: str) -> None:
    found = {f"{section}.{name}": value for name, value in SECTIONS[section](which).items()}
    assert set(found) == {name for name in RECORDED[which]["losses"] if name.startswith(f"{section}.")}
    for kind, recorded in RECORDED[which].items():
        for name in found.keys() & recorded.keys():
            check(f"{which}/losses.json", f"{kind}.{name}", found[name], recorded[name], atol=SINGLE_LOSS)


@pytest.mark.parametrize("which", RECORDED)
@pytest.mark.parametrize("name", ALONE)
def test_single_losses(which: str, name: str) -> None:
    compute, atol = ALONE[name]
    found = compute(which)
    for kind, recorded in RECORDED[which].items():
        if name in recorded:
            check(f"{which}/losses.json", f"{kind}.{name}", found, recorded[name], atol=atol)


@pytest.mark.parametrize("which", RECORDED)
def test_no_recorded_loss_is_left_out(which: str) -> None:
    for kind, recorded in RECORDED[which].items():
        assert recorded, f"{which}: no {kind}"
        unknown = [name for name in recorded if name.partition(".")[0] not in {**SECTIONS, **ALONE}]
        assert not unknown, f"{which}: {unknown} is compared with nothing"
        assert set(recorded) <= set(RECORDED[which]["losses"])


def test_streams_of_one_step_are_independent() -> None:
    """The losses above, each from a batch of its own, are those of a step that has all streams."""
    for which, recorded in RECORDED.items():
        for name, value in all_losses(record(which)).items():
            check(f"{which}/losses.json", f"losses.{name}", value, recorded["losses"][name], atol=SINGLE_LOSS)

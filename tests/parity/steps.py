"""Run recorded batches through x2kit's training step; results have official names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from x2kit.data.config import LossName
from x2kit.data.pipeline.batch import Batch, PairedRows
from x2kit.model import X2VLM
from x2kit.plugin.tasks import STEP_LOSSES
from x2kit.training.step.losses import step_losses
from x2kit.training.step.plan import Negatives

from .conftest import Recording, image_batch, parallel_batch, record, region_batch

Losses = dict[str, Tensor]

KINDS: dict[str, tuple[LossName, ...]] = {
    "image": STEP_LOSSES["images"],
    "region": STEP_LOSSES["boxes"],
    "para_text": STEP_LOSSES["parallel"],
    "text_only": STEP_LOSSES["texts"],
}
"""The losses of each recorded stream."""

MAKE = {"image": image_batch, "region": region_batch, "para_text": parallel_batch}
NEGATIVES = {
    "image": ("image_neg_idx", "text_neg_idx"),
    "region": ("image_neg_idx", "text_neg_idx"),
    "para_text": ("first_text_neg_idx", "second_text_neg_idx"),
}
OFFICIAL_NAMES = {"ttc": "loss_ttc", "ttm": "loss_ttm", "tlm": "loss_mlm"}


def negatives_of(stream: str, recorded: Mapping[str, Any], prefix: str) -> Negatives:
    """The recorded negatives of a stream."""
    image, text = (torch.as_tensor(recorded[f"{prefix}{name}"]) for name in NEGATIVES[stream])
    return Negatives(image, text)


def losses_of(
    model: X2VLM,
    step: Batch,
    negatives: Mapping[str, Negatives],
    active: Mapping[str, Sequence[LossName]] = KINDS,
) -> dict[str, Losses]:
    """The product's losses of a step, by stream and official name."""
    found = step_losses(model, step, {name: active[name] for name in step.streams}, negatives)
    return {
        stream: {OFFICIAL_NAMES.get(name, f"loss_{name}"): value for name, value in losses.items()}
        for stream, losses in found.items()
    }


def joined(steps: Sequence[Batch]) -> Batch:
    """One step of all streams: the images of all of them once, as the product has it."""
    all_images: list[Tensor] = []
    streams = {}
    for step in steps:
        before = sum(map(len, all_images))
        for name, rows in step.streams.items():
            streams[name] = (
                rows._replace(images=rows.images + before) if isinstance(rows, PairedRows) else rows
            )
        if step.images is not None:
            all_images.append(step.images)
    return Batch(0, torch.cat(all_images), streams, {}, [])


def recorded_step(recording: Recording) -> tuple[Batch, dict[str, Negatives]]:
    """All recorded batches of a model as one step, and its negatives."""
    steps, negatives = [], {}
    for stream, make in MAKE.items():
        if (recording.folder / f"{stream}_batch.safetensors").exists():
            tensors = recording.tensors(f"{stream}_batch")
            steps.append(make(tensors))
            negatives[stream] = negatives_of(stream, tensors, "in.")
    return joined(steps), negatives


def all_losses(recording: Recording) -> Losses:
    """The losses of all recorded batches from one step of the product; their sum is the recorded total."""
    found = losses_of(recording.model, *recorded_step(recording))
    return {f"{stream}.{name}": value for stream, losses in found.items() for name, value in losses.items()}


def video_losses() -> tuple[Recording, Losses]:
    """The model with frame positions, and its losses of the video batch.

    A video takes the place of an image, so that all that follows the vision encoder is the product's step.
    """
    recording = record("xvlm", video=True)
    model, tensors = recording.model, recording.tensors("video_batch")
    all_images = model.encode_images
    model.encode_images = lambda x: model.encode_video(x) if x.ndim == 5 else all_images(x)  # type: ignore[method-assign]
    step = image_batch({**tensors, "in.image": tensors["in.frames"]})
    return recording, losses_of(model, step, {"image": negatives_of("image", tensors, "in.")})["image"]


def with_twins(recording: Recording, names: Iterable[str]) -> set[str]:
    """Official names, and those that are tied to them."""
    found = set(names)
    return found | {twin for tied in recording.config["tied"] if found & set(tied) for twin in tied}


def as_new_as_recorded(recording: Recording) -> None:
    """What the recorded run had read from a checkpoint is not new; x2kit has it so after `init_from`."""
    new = with_twins(recording, recording.json("param_groups")["init_params"])
    kept = (own for own, names in recording.names.items() if new.isdisjoint(names))
    recording.model.kept = frozenset(kept)


def rate_settings(recording: Recording, args: Mapping[str, float]) -> dict[str, Any]:
    """Recorded learning rates as settings of x2kit."""
    known = ("lr", "lr_mult", "weight_decay", "vision_lr", "text_lr")
    found: dict[str, Any] = {name: args[name] for name in known if name in args}
    if "cross_lr" in args:
        found["fusion_lr"] = args["cross_lr"]
    elif "text_lr" in args and "cross" not in recording.config:
        # The official text encoder holds the fusion layers and the masked-language head.
        found["fusion_lr"] = found["mlm_head_lr"] = args["text_lr"]
    return found

"""Every recorded output of the batches: tokens, features, logits, boxes, weights of hard negatives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from x2kit.model import X2VLM
from x2kit.model.x2vlm import image_context
from x2kit.objectives import contrastive_logits, negative_weights
from x2kit.plugin import Context, VisionFeatures

from .conftest import REFERENCE, Recording, masked_of, record, texts_of
from .evidence import check

Tensors = dict[str, Tensor]

TOKENS = 2e-5
MLM_LOGITS = 5e-5
UNIT = 1e-5
"""Features, similarity, boxes, sampling weights."""


def tolerance(name: str) -> float:
    if name.startswith("mlm_logits"):
        return MLM_LOGITS
    unit = name.endswith("_feat") or name.startswith("weights_for_") or name in ("similarity", "pred_bbox")
    return UNIT if unit else TOKENS


def vision_sequence(context: Context) -> Tensor:
    """The official sequence of an image: the summary, then the patches."""
    return context.expand()[0]


def matching(
    model: X2VLM, tokens: Tensor, mask: Tensor, image: Tensor, text: Tensor, seen: Callable[[Tensor], Context]
) -> Tensor:
    """Matching logits of true pairs, of texts with negative images, of negative texts with images.

    Args:
        image, text: [B] recorded negatives.
        seen: context of the images (or first texts) of these rows.
    """
    itself = torch.arange(len(tokens))
    texts = torch.cat([itself, itself, text])
    context = seen(torch.cat([itself, image, itself]))
    return model.itm_logits(model.fuse(tokens[texts], mask[texts], context, summary_rows=len(texts)))


def whole_images(model: X2VLM, features: VisionFeatures, batch: Tensors) -> Tensors:
    """What whole images and videos have in common."""
    texts, rows = texts_of(batch), torch.arange(len(batch["in.text_ids"]))
    context = image_context(features, rows)
    tokens = model.encode_texts(*texts)
    return {
        "image_embeds": vision_sequence(context),
        "image_atts": context.expand()[1],
        "image_feat": model.project_images(features.summary),
        "text_embeds": tokens,
        "text_feat": model.project_texts(tokens),
        "cross_embeds": model.fuse(tokens, texts.mask, context),
        "itm_logits": matching(
            model,
            tokens,
            texts.mask,
            batch["in.image_neg_idx"],
            batch["in.text_neg_idx"],
            lambda which: image_context(features, which),
        ),
    }


def masked_language(model: X2VLM, features: VisionFeatures, batch: Tensors) -> Tensors:
    masked, mask = masked_of(batch), texts_of(batch).mask
    tokens = model.encode_texts(masked.ids, mask)
    with_image = model.fuse(tokens, mask, image_context(features, torch.arange(len(tokens))))
    text_only = model.fuse(tokens, mask, None)
    return {
        "cross_embeds_from_ids": with_image,
        "mlm_logits": model.mlm_head(with_image, masked.positions),
        "text_only_embeds": text_only,
        "mlm_logits_text_only": model.mlm_head(text_only, masked.positions),
    }


def contrastive(model: X2VLM, found: Tensors, idx: Tensor) -> Tensors:
    logits = contrastive_logits(found["image_feat"], found["text_feat"], model.temperature)
    grouped = negative_weights(logits, idx)
    return {
        "similarity": logits * model.temperature,
        "similarity_over_temp": logits,
        "weights_for_text_negatives": negative_weights(logits),
        "weights_for_image_negatives": negative_weights(logits.T),
        "weights_for_text_negatives_idx": grouped,
        "weights_for_image_negatives_idx": negative_weights(logits.T, idx),
        # The labels are an input; what can be found again is who is never whose negative.
        "itc_idx": idx[(grouped == 0).int().argmax(1)],
    }


def position_ids(model: X2VLM, batch: Tensors) -> Tensor:
    """The positions that the text encoder looks up."""
    seen: list[Tensor] = []
    embedding = model.text.model.embeddings.position_embeddings
    hook = embedding.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    texts = texts_of(batch)
    model.encode_texts(*texts)
    hook.remove()
    return seen[0].expand_as(texts.ids)


def image_outputs(recording: Recording, batch: Tensors) -> Tensors:
    model = recording.model
    features = model.encode_images(batch["in.image"])
    found = whole_images(model, features, batch) | masked_language(model, features, batch)
    found["text_position_ids"] = position_ids(model, batch)
    return found | contrastive(model, found, batch["out.itc_idx"])


def region_outputs(recording: Recording, batch: Tensors) -> Tensors:
    model, texts, images = recording.model, texts_of(batch), batch["in.idx_to_group_img"]
    features = model.encode_images(batch["in.image"])
    patches = batch["in.image_atts"][:, 1:].bool()
    summary, mask = model.encode_regions(features, images, batch["in.target_bbox"], patches)

    def seen(rows: Tensor) -> Context:
        return Context(features.patches, images[rows], mask[rows], summary[rows][:, None])

    rows = torch.arange(len(images))
    tokens, whole = model.encode_texts(*texts), image_context(features, images)
    negatives = batch["in.image_neg_idx"], batch["in.text_neg_idx"]
    return {
        "image_embeds": vision_sequence(seen(rows)),
        "image_embeds_fullatts": vision_sequence(whole),
        "image_feat": model.project_images(summary),
        "text_embeds": tokens,
        "text_feat": model.project_texts(tokens),
        "cross_embeds": model.fuse(tokens, texts.mask, seen(rows)),
        "itm_logits": matching(model, tokens, texts.mask, *negatives, seen),
        "pred_bbox": model.predict_bbox(model.fuse(tokens, texts.mask, whole)),
    }


def parallel_outputs(recording: Recording, batch: Tensors) -> Tensors:
    model, texts, masked = recording.model, (texts_of(batch), texts_of(batch, "_2")), masked_of(batch)
    first, second = (model.encode_texts(*side) for side in texts)
    rows = torch.arange(len(first))

    def seen(which: Tensor) -> Context:
        return Context(first, which, texts[0].mask[which])

    tokens = model.encode_texts(masked.ids, texts[0].mask)
    translated = model.fuse(tokens, texts[0].mask, Context(second, rows, texts[1].mask))
    features = model.project_texts(first), model.project_texts(second)
    logits = contrastive_logits(*features, model.text_temperature)
    negatives = batch["in.first_text_neg_idx"], batch["in.second_text_neg_idx"]
    return {
        "first_text_embeds": first,
        "second_text_embeds": second,
        "first_text_feat": features[0],
        "second_text_feat": features[1],
        "weights_for_first_text_negatives": negative_weights(logits.T),
        "weights_for_second_text_negatives": negative_weights(logits),
        "cross_embeds_second_over_first": model.fuse(second, texts[1].mask, seen(rows)),
        "ttm_logits": matching(model, second, texts[1].mask, *negatives, seen),
        "mlm_cross_embeds_first_over_second": translated,
        "mlm_logits": model.mlm_head(translated, masked.positions),
    }


def video_outputs(recording: Recording, batch: Tensors) -> Tensors:
    model = recording.model
    features = model.encode_video(batch["in.frames"])
    found = whole_images(model, features, batch)
    for kind in ("embeds", "atts", "feat"):
        found[f"video_{kind}"] = found.pop(f"image_{kind}")
    return found | {"frame_embeds_with_pos": frame_by_frame(model, batch["in.frames"])}


def frame_by_frame(model: X2VLM, frames: Tensor) -> Tensor:
    """Tokens [B, F, N + 1, D] of the frames before their mean: those of videos of one frame and its position."""
    positions, rows, found = model.frame_positions, torch.arange(len(frames)), []
    for frame in range(frames.shape[1]):
        model.frame_positions = torch.nn.Parameter(positions[:, frame : frame + 1])
        features = model.encode_video(frames[:, frame : frame + 1])
        found.append(vision_sequence(image_context(features, rows)))
    model.frame_positions = positions
    return torch.stack(found, 1)


OUTPUTS = {
    "image_batch": image_outputs,
    "region_batch": region_outputs,
    "para_text_batch": parallel_outputs,
    "video_batch": video_outputs,
}
RECORDED = [
    (which, file.stem)
    for which in ("xvlm", "cclm")
    for file in sorted((REFERENCE / which).glob("*_batch.safetensors"))
]


def outputs(which: str, file: str) -> tuple[Tensors, Tensors]:
    """What the model gives and what was recorded, by name."""
    recording = record(which, video=file == "video_batch")
    recording.model.eval()
    batch = recording.tensors(file)
    with torch.no_grad():
        found = OUTPUTS[file](recording, batch)
    return found, {
        name.removeprefix("out."): value for name, value in batch.items() if name.startswith("out.")
    }


@pytest.mark.parametrize(("which", "file"), RECORDED)
def test_outputs(which: str, file: str) -> None:
    found, recorded = outputs(which, file)
    for name, value in recorded.items():
        exact = not value.is_floating_point()
        atol = 0.0 if exact else tolerance(name)
        check(f"{which}/{file}.safetensors", f"out.{name}", found[name], value, atol=atol)


def test_no_recorded_output_is_left_out() -> None:
    assert RECORDED
    for which, file in RECORDED:
        found, recorded = outputs(which, file)
        assert recorded, f"{which}/{file} has no outputs"
        assert set(recorded) <= set(found), (
            f"{which}/{file}: {sorted(set(recorded) - set(found))} is not compared"
        )

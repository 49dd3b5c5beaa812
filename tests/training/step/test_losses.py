"""The step in few passes against the plain one: one call for each loss, images copied out, padding to the limit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from tests.training.conftest import gradients
from x2kit.data.config import LossName
from x2kit.data.pipeline.batch import Batch, MaskedTexts, PairedRows, ParallelRows, TextRows
from x2kit.errors import ShapeError
from x2kit.model import X2VLM, packing
from x2kit.model.regions import patch_mask
from x2kit.objectives import bbox_loss, giou_loss
from x2kit.plugin import Context
from x2kit.plugin.tasks import STEP_LOSSES, Texts
from x2kit.training.step import fusion_pass
from x2kit.training.step.losses import step_losses
from x2kit.training.step.plan import Negatives

ACTIVE: dict[str, tuple[LossName, ...]] = {
    "images": STEP_LOSSES["images"],
    "regions": STEP_LOSSES["boxes"],
    "parallel": STEP_LOSSES["parallel"],
    "alone": STEP_LOSSES["texts"],
}
NEGATIVES = {
    "images": Negatives(torch.tensor([3, 0, 1]), torch.tensor([1, 2, 3])),
    "regions": Negatives(torch.tensor([1, 0, 4, 2, 3]), torch.tensor([4, 3, 0, 1, 2])),
    "parallel": Negatives(torch.tensor([2, 0, 1]), torch.tensor([1, 2, 0])),
}
LIMIT = 40
"""The text encoder's longest text."""


class Plain:
    """Each loss by itself: its own calls of the encoders, one context a row, every text padded to the limit."""

    def __init__(self, model: X2VLM, images: Tensor | None) -> None:
        self.model, self.images = model, images

    def texts(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        padding = (0, LIMIT - ids.shape[1])
        mask = F.pad(mask, padding)
        return self.model.text(F.pad(ids, padding, value=1), mask), mask

    def all_images(self, rows: PairedRows, which: Tensor, whole: bool = False) -> tuple[Tensor, Tensor]:
        """Summary and patches [R, 1 + N, D] of rows' images or regions, and the mask over them."""
        assert self.images is not None
        features = self.model.encode_images(self.images[rows.images[which]])
        patches = features.patches
        mask = torch.ones(patches.shape[:2], dtype=torch.bool)
        if rows.regions is not None and not whole:
            mask = patch_mask(rows.regions.bbox[which], features.grid)
        summary = (patches * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return torch.cat([summary[:, None], patches], 1), F.pad(mask, (1, 0), value=True)

    def fuse(self, text: Tensor, text_mask: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        if context is None:
            return self.model.fusion(text, text_mask, None)
        return self.model.fusion(text, text_mask, Context(context, torch.arange(len(text)), mask))

    def contrastive(self, first: Tensor, second: Tensor, group: Tensor, temperature: Tensor) -> Tensor:
        logits = first @ second.T / temperature
        target = (group[:, None] == group).float()
        target = target / target.sum(1, keepdim=True)
        by_row = -(target * logits.log_softmax(1)).sum(1).mean()
        by_column = -(target * logits.log_softmax(0)).sum(0).mean()
        return (by_row + by_column) / 2

    def matching(self, pairs: list[Tensor]) -> Tensor:
        """Of fused matched pairs and of the two kinds of negatives."""
        logits = [self.model.itm_head(fused[:, 0]).log_softmax(1) for fused in pairs]
        return -torch.cat([logits[0][:, 1], logits[1][:, 0], logits[2][:, 0]]).mean()

    def masked_language(self, fused: Tensor, masked: MaskedTexts) -> Tensor:
        logits = self.model.mlm_head(fused, masked.positions).log_softmax(-1)
        found = [
            -logits[row, k, label]
            for row, labels in enumerate(masked.labels.tolist())
            for k, label in enumerate(labels)
            if label != -100
        ]
        return torch.stack(found).mean()

    def paired(
        self, rows: PairedRows, on: tuple[LossName, ...], negatives: Negatives
    ) -> Iterator[tuple[LossName, Tensor]]:
        model = self.model
        everything = torch.arange(len(rows.images))
        if "itc" in on:
            images = model.project_images(self.all_images(rows, everything)[0][:, 0])
            tokens, _ = self.texts(*rows.texts[:2])
            yield "itc", self.contrastive(images, model.project_texts(tokens), rows.group, model.temperature)
        if "itm" in on:
            itself = torch.arange(len(negatives.text))
            pairs = ((itself, itself), (negatives.image, itself), (itself, negatives.text))
            yield (
                "itm",
                self.matching(
                    [
                        self.fuse(
                            *self.texts(rows.texts.ids[text], rows.texts.mask[text]),
                            *self.all_images(rows, image),
                        )
                        for image, text in pairs
                    ]
                ),
            )
        if "mlm" in on:
            assert rows.masked is not None
            count, length = rows.masked.ids.shape
            text = self.texts(rows.masked.ids, rows.texts.mask[:count, :length])
            fused = self.fuse(*text, *self.all_images(rows, everything[:count]))
            yield "mlm", self.masked_language(fused, rows.masked)
        if rows.regions is not None and ("bbox" in on or "giou" in on):
            boxed = everything[: rows.fused]
            boxed = boxed[~rows.regions.whole[boxed]]
            fused = self.fuse(
                *self.texts(rows.texts.ids[boxed], rows.texts.mask[boxed]),
                *self.all_images(rows, boxed, whole=True),
            )
            found = model.predict_bbox(fused)
            yield "bbox", bbox_loss(found, rows.regions.bbox[boxed])
            yield "giou", giou_loss(found, rows.regions.bbox[boxed])

    def parallel(self, rows: ParallelRows, negatives: Negatives) -> Iterator[tuple[LossName, Tensor]]:
        model = self.model
        first, second = self.texts(*rows.first[:2]), self.texts(*rows.second[:2])
        yield (
            "ttc",
            self.contrastive(
                model.project_texts(first[0]),
                model.project_texts(second[0]),
                rows.group,
                model.text_temperature,
            ),
        )
        itself = torch.arange(len(negatives.text))
        pairs = ((itself, itself), (negatives.image, itself), (itself, negatives.text))

        def of(side: Texts, which: Tensor) -> tuple[Tensor, Tensor]:
            return self.texts(side.ids[which], side.mask[which])

        yield (
            "ttm",
            self.matching(
                [self.fuse(*of(rows.second, text), *of(rows.first, context)) for context, text in pairs]
            ),
        )
        assert rows.masked_first is not None
        masked = self.texts(rows.masked_first.ids, rows.first.mask)
        yield "tlm", self.masked_language(self.fuse(*masked, *second), rows.masked_first)

    def alone(self, rows: TextRows) -> Iterator[tuple[LossName, Tensor]]:
        text = self.texts(rows.masked.ids, rows.texts.mask)
        yield "mlm", self.masked_language(self.fuse(*text, None, None), rows.masked)

    def losses(self, batch: Batch) -> dict[str, dict[LossName, Tensor]]:
        found: dict[str, dict[LossName, Tensor]] = {}
        for name, rows in batch.streams.items():
            if isinstance(rows, PairedRows):
                found[name] = dict(self.paired(rows, ACTIVE[name], NEGATIVES[name]))
            elif isinstance(rows, ParallelRows):
                found[name] = dict(self.parallel(rows, NEGATIVES[name]))
            else:
                found[name] = dict(self.alone(rows))
        return found


class Calls:
    """Rows of each call of the three encoders."""

    def __init__(self, model: X2VLM) -> None:
        self.vision: list[int] = []
        self.text: list[tuple[int, ...]] = []
        self.fusion: list[tuple[int, ...]] = []
        model.vision.register_forward_pre_hook(lambda module, given: self.vision.append(len(given[0])))
        model.text.register_forward_pre_hook(lambda module, given: self.text.append(tuple(given[0].shape)))
        model.fusion.register_forward_pre_hook(
            lambda module, given: self.fusion.append((*given[0].shape[:2], given[3]))
        )


@pytest.mark.parametrize("packs", [True, False], ids=["packed", "buckets"])
@pytest.mark.parametrize("host_reads", [True, False], ids=["cpu", "accelerator"])
def test_losses_and_gradients_equal_those_of_the_plain_step(
    model: X2VLM, batch: Batch, packs: bool, host_reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.fusion.packs = packs
    for module in (packing, fusion_pass):
        monkeypatch.setattr(module, "host_reads", lambda device: host_reads)
    found = step_losses(model, batch, ACTIVE, NEGATIVES)
    expected = Plain(model, batch.images).losses(batch)
    pairs = []
    for name, losses in found.items():
        assert set(losses) == set(ACTIVE[name])
        for loss, value in losses.items():
            assert_close(value, expected[name][loss], rtol=0, atol=1e-5, msg=lambda m, n=loss: f"{n}: {m}")
            pairs.append((f"{name}.{loss}", value, expected[name][loss]))
    for which, value, plain in pairs:  # one by one, so that nothing cancels
        ours, theirs = gradients(model, value), gradients(model, plain)
        for parameter, gradient in theirs.items():
            other = ours.get(parameter, torch.zeros_like(gradient))
            # float32 sums in another order
            assert_close(
                other, gradient, rtol=1e-3, atol=1e-5, msg=lambda m, n=f"{which} {parameter}": f"{n}: {m}"
            )


@pytest.mark.parametrize("fused", [2, 4])
def test_only_fused_regions_have_box_losses(model: X2VLM, batch: Batch, fused: int) -> None:
    few = batch.streams["regions"]._replace(fused=fused, masked=None)
    losses = step_losses(model, batch._replace(streams={"regions": few}), {"regions": ("bbox", "giou")})
    expected = dict(Plain(model, batch.images).paired(few, ("bbox", "giou"), NEGATIVES["regions"]))
    for name, value in losses["regions"].items():
        assert_close(value, expected[name], rtol=0, atol=1e-5)


def test_number_of_encoder_calls_and_rows(model: X2VLM, batch: Batch) -> None:
    calls = Calls(model)
    step_losses(model, batch, ACTIVE, NEGATIVES)
    assert calls.vision == [3]  # distinct images, whatever the number of rows and streams
    # 4 + 3 captions, 5 + 5 names, 3 + 3 + 3 parallel texts, 2 alone: of up to 6 tokens and of up to 12
    assert calls.text == [(20, 6), (8, 12)]
    # itm and boxes; mlm; ttm; tlm; text alone: no call has many more places than tokens
    tokens = [(9 + 15 + 5) * 6, 24 + 21 + 5, 9 * 7, 16, 14]
    assert len(calls.fusion) == len(tokens)
    for (rows, width, summaries), most in zip(calls.fusion, tokens, strict=True):
        assert rows * width <= 1.5 * most
        assert summaries == 0


def test_rows_of_similar_length_share_a_call_of_an_encoder_that_packs_none(
    model: X2VLM, batch: Batch
) -> None:
    model.fusion.packs = False
    calls = Calls(model)
    step_losses(model, batch, ACTIVE, NEGATIVES)
    assert sorted(width for rows, width, _ in calls.fusion if rows > 6) == [6, 9, 12]
    assert sum(rows for rows, _, _ in calls.fusion) == 9 + 3 + 15 + 5 + 5 + 9 + 3 + 2
    assert sum(summaries for _, _, summaries in calls.fusion) == 9 + 15 + 5 + 9


def test_losses_that_are_off_add_no_calls(model: X2VLM, batch: Batch) -> None:
    calls = Calls(model)
    found = step_losses(model, batch, {"images": ("itc",), "parallel": ("ttc",)})
    assert {name: list(losses) for name, losses in found.items()} == {
        "images": ["itc"],
        "regions": [],
        "parallel": ["ttc"],
        "alone": [],
    }
    assert calls.fusion == []


@pytest.mark.parametrize("on", [("bbox",), ("giou",), ("bbox", "giou")])
def test_only_losses_that_are_on_are_returned(model: X2VLM, batch: Batch, on: tuple[LossName, ...]) -> None:
    losses = step_losses(model, batch, {"regions": on})
    assert tuple(losses["regions"]) == on


def test_only_fused_rows_are_matched_and_masked(model: X2VLM, batch: Batch) -> None:
    few = batch.streams["images"]._replace(fused=2, masked=None)
    calls = Calls(model)
    losses = step_losses(model, batch._replace(streams={"images": few}), {"images": ("itc", "itm")})
    assert len(calls.fusion) == 1
    whole = step_losses(model, batch, {"images": ("itc",)})
    assert_close(losses["images"]["itc"], whole["images"]["itc"])  # all four rows


def test_negatives_depend_on_the_seed_and_come_from_all_rows(model: X2VLM, batch: Batch) -> None:
    model.fusion.packs = False  # so that it is called with the image of each row
    pairs = batch.streams["images"]._replace(fused=2)
    seen: set[int] = set()

    def watch(module: object, given: tuple[Tensor, Tensor, Context, int]) -> None:
        seen.update(given[2].rows.tolist())

    model.fusion.register_forward_pre_hook(watch)
    pairs = pairs._replace(images=torch.tensor([0, 1, 2, 2]))
    values = []
    for seed in (*range(20), 0):
        torch.manual_seed(seed)
        losses = step_losses(model, batch._replace(streams={"images": pairs}), {"images": ("itm",)})
        values.append(losses["images"]["itm"].item())
    assert values[0] == values[-1]
    assert len(set(values)) > 1
    assert seen == {0, 1, 2}  # rows 2 and 3 are not fused themselves, but serve as negatives


def test_rows_of_one_group_are_no_negatives_of_each_other(model: X2VLM, batch: Batch) -> None:
    alike = batch.streams["images"]._replace(group=torch.zeros(4, dtype=torch.int64))
    losses = step_losses(model, batch._replace(streams={"images": alike}), {"images": ("itm",)})
    text = Plain(model, batch.images)
    fused = text.fuse(
        *text.texts(*(part[:3] for part in alike.texts[:2])), *text.all_images(alike, torch.arange(3))
    )
    matched = -model.itm_head(fused[:, 0]).log_softmax(1)[:, 1].mean()
    assert_close(losses["images"]["itm"], matched, rtol=0, atol=1e-5)  # nothing but matched pairs is left


def test_step_of_texts_alone(model: X2VLM, batch: Batch) -> None:
    streams = {name: batch.streams[name] for name in ("parallel", "alone")}
    calls = Calls(model)
    losses = step_losses(model, batch._replace(images=None, streams=streams), ACTIVE)
    assert calls.vision == []
    assert [list(found) for found in losses.values()] == [["ttc", "ttm", "tlm"], ["mlm"]]


def test_rows_of_images_in_a_batch_without_images_are_refused(model: X2VLM, batch: Batch) -> None:
    with pytest.raises(ShapeError, match="stream images has rows of images, but the batch has no image"):
        step_losses(model, batch._replace(images=None), ACTIVE)


def test_absent_stream_has_no_losses(model: X2VLM, batch: Batch) -> None:
    streams = {"regions": batch.streams["regions"]}
    losses = step_losses(model, batch._replace(streams=streams), ACTIVE, NEGATIVES)
    whole = step_losses(model, batch, ACTIVE, NEGATIVES)
    assert list(losses) == ["regions"]
    for name, value in losses["regions"].items():
        assert_close(value, whole["regions"][name], rtol=0, atol=1e-6)

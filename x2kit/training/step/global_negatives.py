"""A step of several processes: hard negatives of them all, and losses weighed by who has how many rows. Imports torch.

B rows of one process, W rows of all, F of them fused, f of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from x2kit.data.pipeline.batch import PairedRows, ParallelRows, TextRows, Whole
from x2kit.objectives import contrastive_logits, draw_negatives, negative_weights
from x2kit.plugin import VisionFeatures
from x2kit.training.step.remote_rows import RankExchange, fetch_image_rows, fetch_rows

if TYPE_CHECKING:
    from x2kit.training.step.losses import Losses, StepPlan


def draw(
    partners: RankExchange,
    whole: Whole,
    fused: int,
    logits: Tensor,
    own: tuple[Tensor, Tensor],
    temperature: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Hard negatives of the fused rows of this process.

    Args:
        whole: of the stream.
        fused: f.
        logits: [W, W], images (or first texts) against texts.
        own: features [B, E] of the process's own rows, for negatives that are local.
        temperature: of the logits.
    Returns: for each text another image [f], for each image another text [f], both as numbers of the whole where
        negatives are global and as own rows where they are local; and which matching rows count, [3f] bool.
    """
    mine = whole.numbers[:fused]
    if partners.negatives == "global":
        text, text_valid = _drawn(partners, logits, whole.group, whole.fused)
        image, image_valid = _drawn(partners, logits.T, whole.group, whole.fused)
        text, text_valid, image, image_valid = (
            drawn[mine] for drawn in (text, text_valid, image, image_valid)
        )
    else:
        among, group = contrastive_logits(*own, temperature), whole.group[whole.numbers]
        text, text_valid = _drawn(partners, among, group, fused)
        image, image_valid = _drawn(partners, among.T, group, fused)
    return image, text, torch.cat([torch.ones_like(image_valid), image_valid, text_valid])


def _drawn(partners: RankExchange, logits: Tensor, group: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    if len(logits) < 2:  # a process with one row of regions, or none, has no negative of its own
        nothing = torch.zeros(min(rows, len(logits)), dtype=torch.int64, device=logits.device)
        return nothing, nothing.bool()
    return draw_negatives(negative_weights(logits, group)[:rows], partners.generator)


def with_negatives(
    partners: RankExchange, stream: StepPlan, features: VisionFeatures | None
) -> tuple[StepPlan, VisionFeatures | None]:
    """A stream with the negatives that other processes have, behind its own rows, and their images behind the others.

    Every process has to call this for the same streams in the same order.
    """
    rows, negatives = stream.rows, stream.negatives
    if isinstance(rows, TextRows) or negatives is None or rows.whole is None or partners.negatives == "local":
        return stream, features
    fused = stream.fused
    if isinstance(rows, ParallelRows):
        first = fetch_rows(partners, rows.whole, negatives.image, [stream.texts.clean[0], rows.first.mask])
        second = fetch_rows(partners, rows.whole, negatives.text, [stream.texts.clean[1], rows.second.mask])
        extended = rows._replace(
            first=rows.first._replace(mask=first.tables[1]),
            second=rows.second._replace(mask=second.tables[1]),
            fused=fused,
        )
        clean = [first.tables[0], second.tables[0]]
        moved = negatives._replace(image=first.numbers[negatives.image], text=second.numbers[negatives.text])
        return stream._replace(
            rows=extended, texts=stream.texts._replace(clean=clean), negatives=moved
        ), features
    if stream.view is None or features is None:
        return stream, features
    return _with_images(partners, stream, rows, features, fused)


def _with_images(
    partners: RankExchange, stream: StepPlan, rows: PairedRows, features: VisionFeatures, fused: int
) -> tuple[StepPlan, VisionFeatures]:
    whole, view, negatives = rows.whole, stream.view, stream.negatives
    assert whole is not None  # the caller has looked
    assert view is not None
    assert negatives is not None
    text = fetch_rows(partners, whole, negatives.text, [stream.texts.clean[0], rows.texts.mask])
    seen = [view.summary] if view.mask is None else [view.summary, view.mask]
    image = fetch_rows(partners, whole, negatives.image, seen)
    features, all_images = fetch_image_rows(partners, whole, image.foreign, features)
    extended = rows._replace(
        images=torch.cat([rows.images, all_images]),
        texts=rows.texts._replace(mask=text.tables[1]),
        fused=fused,
    )
    view = view._replace(summary=image.tables[0], mask=None if view.mask is None else image.tables[1])
    moved = negatives._replace(image=image.numbers[negatives.image], text=text.numbers[negatives.text])
    texts = stream.texts._replace(clean=[text.tables[0]])
    return stream._replace(rows=extended, view=view, texts=texts, negatives=moved), features


def weighed(partners: RankExchange, planned: dict[str, StepPlan], losses: Losses) -> Losses:
    """Losses whose mean over the processes is the loss of the whole batch, each process's by the rows that count there.

    Contrastive losses are those of the whole batch already.
    """
    counts = {
        (name, loss): count.sum()
        for name, of_stream in losses.items()
        for loss in of_stream
        if (count := planned[name].counts(loss)) is not None
    }
    weights = partners.weights(counts)
    return {
        name: {
            loss: value * weights[name, loss].to(value.dtype) if (name, loss) in weights else value
            for loss, value in of_stream.items()
        }
        for name, of_stream in losses.items()
    }

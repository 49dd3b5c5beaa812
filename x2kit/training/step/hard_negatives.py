"""Draw hard negatives, and fetch those that other ranks encoded. Imports torch.

B rows of one rank, W rows of all ranks, f rows of this rank that enter the fusion pass.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from x2kit.data.pipeline.batch import PairedRows, ParallelRows, TaskRows, TextRows, Whole
from x2kit.objectives import contrastive_logits, draw_negatives, negative_weights
from x2kit.plugin import VisionFeatures
from x2kit.training.step.plan import ImageContext, Negatives, StreamPlan
from x2kit.training.step.rank_exchange import RankExchange, fetch_images, fetch_rows


def draw(
    logits: Tensor, group: Tensor, rows: int | None, generator: torch.Generator | None = None
) -> Negatives:
    """Draw negatives of the first rows among all rows.

    Args:
        logits: [B, B], images (or first texts) against texts.
        group: [B] int64; rows of one group are no negatives of each other.
        rows: how many rows get negatives; None for all.
    """
    text, text_valid = draw_negatives(negative_weights(logits, group)[:rows], generator)
    image, image_valid = draw_negatives(negative_weights(logits.T, group)[:rows], generator)
    return Negatives(image, text, torch.cat([torch.ones_like(image_valid), image_valid, text_valid]))


def draw_over_ranks(
    exchange: RankExchange,
    whole: Whole,
    fused: int,
    logits: Tensor,
    features: tuple[Tensor, Tensor],
    temperature: Tensor,
) -> Negatives:
    """Draw negatives of this rank's fused rows.

    Args:
        whole: of the stream.
        fused: f.
        logits: [W, W], images (or first texts) against texts.
        features: [B, E] each, of this rank's rows, for local negatives.
        temperature: of the logits.
    Returns: row numbers in the whole batch for global negatives, in this rank's rows for local ones.
    """
    own, group = whole.numbers[:fused], whole.group
    if exchange.negatives == "local":
        logits, group = contrastive_logits(*features, temperature), whole.group[whole.numbers]
    if len(logits) < 2:  # a rank with at most one row of regions has no local negative
        none = torch.zeros(min(fused, len(logits)), dtype=torch.int64, device=logits.device)
        return Negatives(none, none, torch.cat([torch.ones_like(none), none, none]).bool())
    if exchange.negatives == "local":
        return draw(logits, group, fused, exchange.generator)
    image, text, valid = draw(logits, group, whole.fused, exchange.generator)
    assert valid is not None
    return Negatives(image[own], text[own], valid.view(3, -1)[:, own].flatten())


def with_remote_negatives(
    exchange: RankExchange, plan: StreamPlan, features: VisionFeatures | None
) -> tuple[StreamPlan, VisionFeatures | None]:
    """Append the negatives of other ranks to a stream's rows, and their images to the features.

    Collective: every rank calls it for the same streams in the same order.
    """
    rows, negatives = plan.rows, plan.negatives
    whole = None if isinstance(rows, TextRows | TaskRows) else rows.whole
    if (
        isinstance(rows, TextRows | TaskRows)
        or negatives is None
        or whole is None
        or exchange.negatives == "local"
    ):
        return plan, features
    if isinstance(rows, ParallelRows):
        first = fetch_rows(exchange, whole, negatives.image, [plan.texts.clean[0], rows.first.mask])
        second = fetch_rows(exchange, whole, negatives.text, [plan.texts.clean[1], rows.second.mask])
        rows = rows._replace(
            first=rows.first._replace(mask=first.tables[1]),
            second=rows.second._replace(mask=second.tables[1]),
            fused=plan.fused,
        )
        texts = plan.texts._replace(clean=[first.tables[0], second.tables[0]])
        negatives = negatives._replace(
            image=first.positions[negatives.image], text=second.positions[negatives.text]
        )
        return plan._replace(rows=rows, texts=texts, negatives=negatives), features
    if plan.image is None or features is None:
        return plan, features
    return _with_remote_images(exchange, plan, rows, whole, plan.image, negatives, features)


def _with_remote_images(
    exchange: RankExchange,
    plan: StreamPlan,
    rows: PairedRows,
    whole: Whole,
    image: ImageContext,
    negatives: Negatives,
    features: VisionFeatures,
) -> tuple[StreamPlan, VisionFeatures]:
    text = fetch_rows(exchange, whole, negatives.text, [plan.texts.clean[0], rows.texts.mask])
    tables = [image.summary] if image.mask is None else [image.summary, image.mask]
    region = fetch_rows(exchange, whole, negatives.image, tables)
    features, images = fetch_images(exchange, whole, region.remote, features)
    rows = rows._replace(
        images=torch.cat([rows.images, images]),
        texts=rows.texts._replace(mask=text.tables[1]),
        fused=plan.fused,
    )
    image = image._replace(summary=region.tables[0], mask=None if image.mask is None else region.tables[1])
    negatives = negatives._replace(
        image=region.positions[negatives.image], text=text.positions[negatives.text]
    )
    texts = plan.texts._replace(clean=[text.tables[0]])
    return plan._replace(rows=rows, image=image, texts=texts, negatives=negatives), features


class RemoteRows:
    """Rows fetched from other ranks as detached leaves; one backward pass returns their gradients.

    Collective: every rank builds it for the same streams, and calls `backward`.

    Args:
        exchange: with the other ranks.
        plans: streams over leaves.
        features: of this rank's images, leaves as well; None if the batch has none.
    """

    def __init__(
        self, exchange: RankExchange, plans: Mapping[str, StreamPlan], features: VisionFeatures | None
    ) -> None:
        self._fetched: list[Tensor] = []
        self._leaves: list[Tensor] = []
        extended = {}
        for name, plan in plans.items():
            extended[name], features = with_remote_negatives(exchange, plan, features)
        self.plans = {name: self._over_leaves(plan) for name, plan in extended.items()}
        """The streams, remote rows behind local ones."""
        self.features = features
        """Remote images behind local ones."""
        if features is not None:
            summary, patches = self._leaf(features.summary), self._leaf(features.patches)
            self.features = features._replace(summary=summary, patches=patches)

    def _over_leaves(self, plan: StreamPlan) -> StreamPlan:
        texts = plan.texts._replace(clean=[self._leaf(tokens) for tokens in plan.texts.clean])
        image = plan.image
        if image is not None:
            image = image._replace(summary=self._leaf(image.summary))
        return plan._replace(texts=texts, image=image)

    def _leaf(self, tensor: Tensor) -> Tensor:
        if tensor.is_leaf:  # nothing was fetched
            return tensor
        self._fetched.append(tensor)
        self._leaves.append(tensor.detach().requires_grad_())
        return self._leaves[-1]

    def backward(self) -> None:
        """Return the gradients to the local leaves and to the ranks that own the rows."""
        if self._fetched:
            # Zeros too: a rank whose parts used no remote row still receives gradients.
            gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in self._leaves]
            torch.autograd.backward(self._fetched, gradients)

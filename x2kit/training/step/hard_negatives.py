"""Draw hard negatives, and exchange those that other ranks encoded. Imports torch.

B rows of one rank, W rows of all ranks, f rows of this rank and F of all that enter the fusion pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from x2kit.data.pipeline.batch import PairedRows, ParallelRows, Whole
from x2kit.objectives import contrastive_logits, draw_negatives, negative_weights
from x2kit.plugin import VisionFeatures
from x2kit.training.step.metrics import StepMetrics
from x2kit.training.step.plan import Negatives, StreamPlan
from x2kit.training.step.rank_exchange import Draws, Found, RankExchange, Route


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
    image, text, valid, _ = draw(logits, group, whole.fused, exchange.generator)
    assert valid is not None
    return Negatives(image[own], text[own], valid.view(3, -1)[:, own].flatten(), (image, text))


def exchange_negatives(
    exchange: RankExchange,
    plans: Mapping[str, StreamPlan],
    features: VisionFeatures | None,
    metrics: StepMetrics | None = None,
) -> tuple[dict[str, StreamPlan], VisionFeatures | None]:
    """Append the negatives of other ranks to the rows of all streams, and their images to the features.

    Collective, with one message for all streams. A negative above the capacity of the exchange does not count.

    Args:
        plans: with negatives.
        features: of this rank's images.
        metrics: records the share of negatives above the capacity, where there can be any.
    """
    streams = {name: _Stream(exchange, plan) for name, plan in plans.items() if _drawn_from_all(plan)}
    if not streams:
        return dict(plans), features
    images = None if features is None else _image_route(exchange, streams.values(), len(features.patches))
    tables = [table for stream in streams.values() for table in stream.tables()]
    if features is not None and images is not None:
        tables += [(images, features.summary), (images, _as_computed(features.patches))]
    received = iter(exchange.send(tables))
    extended = {}
    for name, stream in streams.items():
        extended[name], arrived = stream.extended(received, images)
        if metrics is not None and not stream.complete(images):
            metrics.add(f"{name}.negatives_dropped", ~arrived, torch.ones_like(arrived))
    if features is not None and images is not None:
        summary = torch.cat([features.summary, next(received)])
        patches = torch.cat([features.patches, next(received).to(features.patches.dtype)])
        features = features._replace(summary=summary, patches=patches)
    return {**plans, **extended}, features


def _as_computed(patches: Tensor) -> Tensor:
    """Round patches to the precision of autocast, as products do: they are nearly all bytes of the exchange."""
    device = patches.device.type
    return patches.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else patches


def _drawn_from_all(plan: StreamPlan) -> bool:
    return plan.negatives is not None and plan.negatives.of_ranks is not None


def _image_route(exchange: RankExchange, streams: Iterable[_Stream], num_images: int) -> Route | None:
    """Find the images to send, each once for all streams; None without a stream of images."""
    draws = [stream.image_draws() for stream in streams if stream.paired]
    return exchange.route(draws, num_images) if draws else None


class _Stream:
    """A stream whose negatives may be on other ranks: tables of its rows, extended by those of other ranks."""

    def __init__(self, exchange: RankExchange, plan: StreamPlan) -> None:
        rows, negatives = plan.rows, plan.negatives
        assert isinstance(rows, PairedRows | ParallelRows)
        assert rows.whole is not None
        assert negatives is not None
        self._exchange, self._plan, self._rows, self._whole = exchange, plan, rows, rows.whole
        self._negatives = negatives
        self.paired = isinstance(rows, PairedRows)
        own = len(rows.group)
        self._routes = [
            exchange.route([self._draws(side, rows.whole.row, rows.whole.num_rows)], own) for side in (0, 1)
        ]

    def _draws(self, side: int, row: Tensor, num_rows: Sequence[int]) -> Draws:
        """Describe the image (0) or text (1) negatives of all ranks, as rows of tables with `num_rows` rows."""
        whole = self._whole
        assert self._negatives.of_ranks is not None
        numbers = self._negatives.of_ranks[side]
        owner, row = whole.rank.index_select(0, numbers), row.index_select(0, numbers)
        return Draws(whole.rank[: whole.fused], owner, row, whole.num_fused, num_rows)

    def image_draws(self) -> Draws:
        """Describe the image negatives of all ranks, as numbers of images on their ranks."""
        return self._draws(0, self._whole.image, self._whole.num_images)

    def tables(self) -> list[tuple[Route, Tensor]]:
        """List the tables to send: those of the regions, images or first texts, then those of the texts."""
        first, second = self._routes
        rows, texts, image = self._rows, self._plan.texts.clean, self._plan.image
        if isinstance(rows, ParallelRows):
            of_first, mask = [texts[0], rows.first.mask], rows.second.mask
        else:
            assert image is not None
            of_first = [image.summary] if image.mask is None else [image.summary, image.mask]
            mask = rows.texts.mask
        return [*((first, table) for table in of_first), (second, texts[-1]), (second, mask)]

    def complete(self, images: Route | None) -> bool:
        """Whether no negative can be above the capacity; known to the host."""
        routes = [*self._routes, images] if self.paired else self._routes
        return all(route is None or route.complete for route in routes)

    def extended(self, received: Iterator[Tensor], images: Route | None) -> tuple[StreamPlan, Tensor]:
        """Append received rows to the tables, and point the negatives at them.

        Args:
            received: rows of `tables`, in order.
            images: route of the images.
        Returns: the plan, and which negatives arrived: [2 * fused] bool, image negatives before text negatives.
        """
        tables = [torch.cat([table, next(received)]) for _, table in self.tables()]
        own = len(self._rows.group)
        first, second = (self._found(side, self._whole.row, self._routes[side]) for side in (0, 1))
        plan, rows = self._plan, self._rows
        if isinstance(rows, ParallelRows):
            clean, (first_mask, second_mask) = tables[::2], tables[1::2]
            rows = rows._replace(
                first=rows.first._replace(mask=first_mask), second=rows.second._replace(mask=second_mask)
            )
        else:
            assert plan.image is not None
            summary, clean = tables[0], tables[-2:-1]
            mask = tables[1] if len(tables) == 4 else None
            if images is not None:
                found = self._found(0, self._whole.image, images)
                added = found.rows.new_zeros(len(summary) - own + 1)
                # The last entry, cut off, takes the images of own negatives.
                places = torch.where(first.rows < own, len(added) - 1, first.rows - own)
                added.scatter_(0, places, found.rows)
                rows = rows._replace(images=torch.cat([rows.images, added[:-1]]))
                first = first._replace(arrives=first.arrives & found.arrives)
            rows = rows._replace(texts=rows.texts._replace(mask=tables[-1]))
            plan = plan._replace(image=plan.image._replace(summary=summary, mask=mask))
        arrived = torch.cat([first.arrives, second.arrives])
        counted = torch.cat([torch.ones_like(first.arrives), arrived])
        valid = counted if self._negatives.valid is None else counted & self._negatives.valid
        plan = plan._replace(
            rows=rows._replace(fused=plan.fused),
            texts=plan.texts._replace(clean=clean),
            negatives=Negatives(first.rows, second.rows, valid),
        )
        return plan, arrived

    def _found(self, side: int, row: Tensor, route: Route) -> Found:
        numbers = self._negatives.text if side else self._negatives.image
        return route.find(self._whole.rank.index_select(0, numbers), row.index_select(0, numbers))


class RemoteRows:
    """Rows of other ranks as detached leaves; one backward pass returns their gradients.

    Collective: every rank builds it for the same streams, and calls `backward`.

    Args:
        exchange: with the other ranks.
        plans: streams over leaves.
        features: of this rank's images, leaves as well; None if the batch has none.
        metrics: as in `exchange_negatives`.
    """

    def __init__(
        self,
        exchange: RankExchange,
        plans: Mapping[str, StreamPlan],
        features: VisionFeatures | None,
        metrics: StepMetrics | None = None,
    ) -> None:
        self._fetched: list[Tensor] = []
        self._leaves: list[Tensor] = []
        extended, features = exchange_negatives(exchange, plans, features, metrics)
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

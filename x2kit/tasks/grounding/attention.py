"""Find regions by attention and gradient, weakly supervised (X-VLM, section 4.2). Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from x2kit.distributed.ranks import Ranks
from x2kit.errors import HeadError
from x2kit.model.attention_map import text_maps
from x2kit.model.x2vlm import X2VLM
from x2kit.plugin import Context
from x2kit.tasks.grounding.map_boxes import best_detection, box_of_map
from x2kit.tasks.grounding.metric import pixel_iou
from x2kit.tasks.records import Entry, detections_in
from x2kit.tasks.scoring import ImageBank, Progress, TextBank, compute_pairs, tokens_at_once

if TYPE_CHECKING:
    from x2kit.tasks.grounding.config import WeakGrounding

SHARE_OF_TOKENS = 4
"""A pass has this part of the tokens of one without gradient, since all layers keep what they computed."""


class AttentionMap:
    """Predicts boxes from the attention of one fusion layer; see `WeakGrounding`.

    Raises: HeadError for a model without matching head, or a fusion encoder without attention in this layer.
    """

    def __init__(self, config: WeakGrounding, model: X2VLM) -> None:
        layers = model.fusion.attention_layers
        if not layers:
            raise HeadError(
                f"WeakGrounding: {type(model.fusion).__name__} (model.fusion) gives no attention probabilities; "
                "evaluate a model whose fusion encoder does, or use Grounding"
            )
        if config.layer is not None and config.layer >= layers:
            raise HeadError(
                f"WeakGrounding: layer {config.layer}, but model.fusion has the layers 0 to {layers - 1}"
            )
        if not hasattr(model, "itm_head"):
            raise HeadError("WeakGrounding: the model has no matching head; model.heads.built needs itm")
        self.layer = layers // 2 if config.layer is None else config.layer
        self._alpha = config.alpha

    def locate(
        self,
        model: X2VLM,
        images: ImageBank,
        texts: TextBank,
        pairs: Tensor,
        entries: Sequence[Entry],
        progress: Progress,
        ranks: Ranks,
    ) -> Tensor:
        """Predict the box of every region; see `Locator`."""
        distinct, places = torch.unique(pairs, dim=0, return_inverse=True)
        maps = self.maps(model, images, texts, distinct, progress, ranks)
        return torch.tensor(
            [self._box(maps[place], entry) for place, entry in zip(places.tolist(), entries, strict=True)],
            dtype=torch.float64,
        )

    @torch.no_grad()
    def maps(
        self,
        model: X2VLM,
        images: ImageBank,
        texts: TextBank,
        pairs: Tensor,
        progress: Progress,
        ranks: Ranks,
    ) -> Tensor:
        """Compute the map of each image-text pair [P, 2]: [P, rows, columns]."""

        def mapped(tokens: Tensor, mask: Tensor, context: Context) -> Tensor:
            return text_maps(model, tokens, mask, context, self.layer)

        at_once = tokens_at_once(model) // SHARE_OF_TOKENS
        maps = compute_pairs(model, images, texts, pairs, mapped, at_once, progress, ranks)
        return maps.view(len(maps), *images.grid)

    def _box(self, heat: Tensor, entry: Entry) -> tuple[float, ...]:
        detections = detections_in(entry)
        if detections:
            return best_detection(heat, entry.size, detections, self._alpha)
        return box_of_map(heat, entry.size, self._alpha)

    def facts(self, entries: Sequence[Entry], truth: Tensor, limit: float, chance: float) -> dict[str, Any]:
        """Measure a random and the best choice among the detections; see `Locator`.

        Returns: with_detections (number of regions); if there are any, random_detection and best_detection (shares of
            hits), and chance: that of a random detection, or of other regions where there are none.
        """
        hits = []
        for entry, box in zip(entries, truth, strict=True):
            if detections := detections_in(entry):
                boxes = torch.tensor(detections, dtype=torch.float64)
                hits.append(pixel_iou(boxes, box.expand_as(boxes)) >= limit)
        if not hits:
            return {"with_detections": 0}
        drawn = fmean(float(each.double().mean()) for each in hits)
        share = len(hits) / len(entries)
        return {
            "with_detections": len(hits),
            "random_detection": drawn,
            "best_detection": fmean(float(each.any()) for each in hits),
            "chance": share * drawn + (1 - share) * chance,
        }

"""Contract of objectives: losses of a stream in addition to those of the paper. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from x2kit.plugin.encoders import VisionFeatures

MeanOver: TypeAlias = Literal["pairs", "rows"]
"""What an objective is a mean over: the pairs of the global batch, or the rows of a rank."""


class EncodedTexts(NamedTuple):
    """Encoded texts of B rows: tokens [B, L, D], mask [B, L] bool, True is kept."""

    tokens: Tensor
    mask: Tensor


class StreamFeatures(NamedTuple):
    """Features of a stream in a step: W rows of the global batch, of which B are on this rank.

    With one rank W and B are the same rows. In parallel text the first text replaces the image.

    Attributes:
        first: [W, E] float32, unit length: images or regions in the common space; the first texts of parallel text.
        second: [W, E] float32, unit length: the texts; row i belongs to row i of `first`.
        group: [W] int64; rows of one group are positives of each other, as set by `positives` of the stream.
        temperature: scalar, the learned temperature of the contrastive loss.
        texts: texts of the B rows; one entry, or two for parallel text.
        summary: [B, D] of the image or region of each row; None for parallel text.
        region_mask: [B, N] bool, the patches of each row's region; None for whole images.
        images: [B] int64, the image of each row among the M; None for parallel text.
        vision: features of the M distinct images of the step, including other streams; None for parallel text.
        teacher: [B, E'] float32, unit length, no gradient: the text of each row in the pivot language, embedded by a
            trained model whose common space has E' dimensions; None without a teacher, see `ObjectiveConfig.taught`.
    """

    first: Tensor
    second: Tensor
    group: Tensor
    temperature: Tensor
    texts: Sequence[EncodedTexts]
    summary: Tensor | None = None
    region_mask: Tensor | None = None
    images: Tensor | None = None
    vision: VisionFeatures | None = None
    teacher: Tensor | None = None


@runtime_checkable
class Objective(Protocol):
    """A pure function of features, without parameters, state or random numbers.

    Autocast is off when it is called. Tokens, summaries and patches may have half precision: convert them to float.
    """

    def __call__(self, features: StreamFeatures) -> Tensor:
        """Compute the unweighted loss.

        Returns: scalar with its graph. An objective over pairs uses `first`, `second` and `group` only and is a mean
            over the W pairs, equal on all ranks; one over rows is a mean over the B rows, and ranks are weighted by
            their number of rows.
        """
        ...

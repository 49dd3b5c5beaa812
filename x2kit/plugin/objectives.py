"""The contract of objectives: further losses of a stream, beside those of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from x2kit.plugin.encoders import VisionFeatures

MeanOver: TypeAlias = Literal["pairs", "rows"]
"""What an objective is a mean over: the pairs of the whole batch, or the rows of a process."""


class EncodedTexts(NamedTuple):
    """The texts of B rows as the text encoder gave them: tokens [B, L, D], mask [B, L] bool, True is kept."""

    tokens: Tensor
    mask: Tensor


class StreamFeatures(NamedTuple):
    """What an objective is given of a stream in a step: W rows of the whole batch, B of them of this process.

    In one process W and B are the same rows. In parallel text the first text takes the place of the image.

    Attributes:
        first: [W, E] float32, unit length: images, or regions, in the common space; of parallel text the first texts.
        second: [W, E] float32, unit length: the texts; row i belongs to row i of `first`.
        group: [W] int64; rows of one group are right answers to each other, as `positives` of the stream says.
        temperature: scalar, learned: that of the contrastive loss.
        texts: of the B rows; one entry, and two of parallel text.
        summary: [B, D] of the image or region of each row; None of parallel text.
        region_mask: [B, N] bool, the patches of each row's region; None where rows look at whole images.
        images: [B] int64, which of the M images each row looks at; None of parallel text.
        vision: of the M distinct images of the step, those of other streams included; None of parallel text.
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


@runtime_checkable
class Objective(Protocol):
    """A pure function of features: it has no parameters and no state, and draws nothing.

    Autocast is off where it is called. Tokens, summaries and patches may then be of half precision, so make them float.
    """

    def __call__(self, features: StreamFeatures) -> Tensor:
        """The loss, unweighted.

        Returns: scalar with its graph. An objective over pairs looks at `first`, `second` and `group` alone and is a
            mean over the W pairs, so that every process finds the same; one over rows is a mean over the B rows, which
            several processes weigh by how many each has.
        """
        ...

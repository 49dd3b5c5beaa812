"""Compare retrieval ranking with its plain formulation: `python -m tests.benchmarks.retrieval`.

Images and texts are encoded once on both sides, so the time is that of scoring the candidates. What is measured is
"128 candidates of 1,000 images with 5 captions each" made smaller: the share of candidates, the captions of a
image, the lengths of captions and the patches of an image stay, the counts and the model shrink. The options
make it larger again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from x2kit_fusion import CrossBert

from tests.benchmarks.paired import paired
from tests.benchmarks.plain_retrieval import plain_scores
from tests.model.tiny import TinyText, TinyVision
from x2kit.model import X2VLM, build_model
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.tasks import Retrieval
from x2kit.tasks.retrieval.metric import Scores, reranked
from x2kit.tasks.scoring import ImageBank, TextBank
from x2kit.training.profiling.costs import count_operations

TOLERANCE = 1e-5
"""Largest difference of two scores."""
SHARE = 128 / 1000
"""Candidates of a text among the images."""
TEXTS_OF_A_IMAGE = 5
TOKENS = 8, 5.5, 40
"""Of a caption: the shortest, the mean beyond it (Poisson), the most. COCO's have about 13 with their special ones."""


class Shape(NamedTuple):
    """Sizes of the ranking. By default a round takes seconds on one core, with layers and patches of the base model."""

    images: int = 32
    side: int = 14
    width: int = 256
    layers: int = 6

    @property
    def top_k(self) -> int:
        """Candidates of a query."""
        return round(SHARE * self.images)


class Encoded(NamedTuple):
    """Encoded images and texts; images are most similar to their own texts."""

    model: X2VLM
    images: ImageBank
    texts: TextBank

    @property
    def similarity(self) -> Tensor:
        return self.images.projected @ self.texts.projected.T


def encoded(shape: Shape, seed: int = 0) -> Encoded:
    """Draw random states of images and texts, and unit vectors like those of a trained model."""
    torch.manual_seed(seed)
    config = ModelConfig(
        vision=TinyVision(width=shape.width),
        text=TinyText(width=shape.width),
        fusion=CrossBert(layers=shape.layers, heads=max(1, shape.width // 64)),
        heads=HeadsConfig(built=("itc", "itm")),
    )
    model = build_model(config).eval()
    torch.nn.init.normal_(model.itm_head[-1].weight, std=0.1)  # scores apart by about one
    shown = F.normalize(torch.randn(shape.images, 64), dim=-1)
    said = shown.repeat_interleave(TEXTS_OF_A_IMAGE, 0)
    said = F.normalize(said + 0.1 * torch.randn_like(said), dim=-1)
    shortest, beyond, most = TOKENS
    lengths = (shortest + torch.poisson(torch.full((len(said),), beyond)).long()).clamp(max=most)
    patches = torch.randn(shape.images, shape.side**2, shape.width)
    tokens = torch.randn(int(lengths.sum()), shape.width)
    return Encoded(
        model,
        ImageBank(patches.mean(1), patches, shown, (shape.side, shape.side)),
        TextBank(tokens, lengths.cumsum(0) - lengths, lengths, said),
    )


def plain(given: Encoded, top_k: int) -> Scores:
    """Rank by the plain formulation, with texts padded to the 40 tokens of the official evaluation."""
    _, _, most = TOKENS
    mask = torch.arange(most) < given.texts.lengths[:, None]
    texts = torch.zeros(*mask.shape, given.texts.tokens.shape[1])
    texts[mask] = given.texts.tokens
    images = torch.cat([given.images.summary[:, None], given.images.patches], 1)
    return plain_scores(given.model, images, texts, mask, given.similarity, top_k)


def ours(given: Encoded, top_k: int) -> Scores:
    """Rank by x2kit's evaluation."""
    config = Retrieval(top_k=top_k, rerank="matching")
    everything = torch.arange(len(given.images))
    return reranked(config, given.model, given.images, given.texts, everything, given.similarity)


def difference(one: Scores, other: Scores) -> float:
    """Return the largest difference of both directions."""
    return max(float((a[:] - b[:]).abs().max()) for a, b in zip(one, other, strict=True))


def counted(rank: Callable[[Encoded, int], Scores], given: Encoded, top_k: int) -> tuple[Scores, float]:
    """Return scores, and billions of floating-point operations of matrix products and attention."""
    with count_operations() as counter:
        scores = rank(given, top_k)
    return scores, counter.get_total_flops() / 1e9


def main() -> None:
    """Print sizes, difference, times and ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in Shape()._asdict().items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rounds", type=int, default=4)
    options = vars(parser.parse_args())
    rounds = options.pop("rounds")
    shape = Shape(**options)
    print(
        f"{shape.top_k} candidates of {shape.images} images with {TEXTS_OF_A_IMAGE} captions each, "
        f"{shape.side**2} patches, captions of {TOKENS[0] + TOKENS[1]} tokens in the mean; "
        f"{shape.layers} fusion layers of width {shape.width}, {torch.get_num_threads()} threads"
    )
    given = encoded(shape)
    expected, plain_operations = counted(plain, given, shape.top_k)
    scores, operations = counted(ours, given, shape.top_k)
    found = difference(scores, expected)
    print(f"largest difference of scores: {found:.1e}")
    if found > TOLERANCE:
        raise SystemExit(f"the scores differ by more than {TOLERANCE}")
    share = plain_operations / operations
    print(f"operations: {plain_operations:.1f} and {operations:.1f} billion, a ratio of {share:.2f}")
    ratio = paired(lambda: plain(given, shape.top_k), lambda: ours(given, shape.top_k), rounds, warm_up=0)
    print("\n".join(ratio.lines()))


if __name__ == "__main__":
    main()

"""Compare caption generation with its plain formulation: `python -m tests.benchmarks.captions`.

Plain: each step reads prompt and text again, and copies the image to each beam. Images are encoded once on both
sides. The masked form (X²-VLM) is measured unless `--causal`. Patches, prompt, beams and lengths are those of the
paper's captions at 384 pixels; width and layers are smaller. The options make them larger again.
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
from tests.model.generation.test_left_to_right import BertOfWords
from tests.model.tiny import TinyVision
from x2kit.model import X2VLM, build_model
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.model.generation.beam_search import Found, Search, beam_search
from x2kit.model.generation.left_to_right import caption_states, write_captions
from x2kit.model.x2vlm import image_context
from x2kit.plugin import VisionFeatures

PROMPT = [0, 5, 6, 7]
TOLERANCE = 1e-4
"""Largest difference of two scores."""


class Shape(NamedTuple):
    """Sizes of the generation."""

    images: int = 8
    side: int = 24
    width: int = 256
    layers: int = 6
    beams: int = 3
    length: int = 20


class Given(NamedTuple):
    """A model, encoded images, and the search."""

    model: X2VLM
    features: VisionFeatures
    search: Search
    masked: bool


def given(shape: Shape, masked: bool, seed: int = 0) -> Given:
    """Build a model with weights far enough from zero that beams differ, and draw patches."""
    torch.manual_seed(seed)
    heads = max(1, shape.width // 64)
    config = ModelConfig(
        vision=TinyVision(width=shape.width),
        text=BertOfWords(
            layers=shape.layers, width=shape.width, heads=heads, max_length=len(PROMPT) + shape.length + 1
        ),
        fusion=CrossBert(layers=shape.layers, heads=heads, init_std=shape.width**-0.5),
        heads=HeadsConfig(built=("mlm",)),
    )
    model = build_model(config).eval()
    torch.nn.init.normal_(model.text.token_embedding().weight, std=0.3)
    patches = torch.randn(shape.images, shape.side**2, shape.width) + torch.randn(
        shape.images, 1, shape.width
    )
    features = VisionFeatures(patches.mean(1), patches, (shape.side, shape.side))
    search = Search(shape.beams, min_length=shape.length - 1, max_length=shape.length, unique_ngrams=None)
    return Given(model, features, search, masked)


@torch.inference_mode()
def plain(it: Given) -> list[Found]:
    """Read all tokens again at every step."""
    rows = torch.arange(len(it.features.summary)).repeat_interleave(it.search.num_beams)
    context = image_context(it.features, rows)

    def next_token(ids: Tensor, _: Tensor) -> Tensor:
        if it.masked:
            ids = F.pad(ids, (0, 1), value=it.model.tokenizer.special.mask)
        states = caption_states(it.model, ids, torch.zeros_like(ids, dtype=torch.bool), context)
        last = torch.full((len(ids), 1), ids.shape[1] - 1)
        return it.model.mlm_head(states, last)[:, 0].log_softmax(-1)

    return beam_search(
        next_token, len(it.features.summary), PROMPT, it.model.tokenizer.special.sep, it.search
    )


def ours(it: Given) -> list[Found]:
    """Read each token once, with keys and values kept."""
    return write_captions(it.model, it.features, PROMPT, it.search, it.masked)


def require_equal(one: list[Found], other: list[Found]) -> None:
    """Stop if captions or scores differ."""
    for a, b in zip(one, other, strict=True):
        if a.ids != b.ids or abs(a.score - b.score) > TOLERANCE:
            raise SystemExit(f"the captions differ: {a} and {b}")


def main() -> None:
    """Print sizes, times and ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in Shape()._asdict().items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--causal", action="store_true")
    options = vars(parser.parse_args())
    rounds, masked = options.pop("rounds"), not options.pop("causal")
    shape = Shape(**options)
    it = given(shape, masked)
    print(
        f"{shape.images} images of {shape.side**2} patches, {shape.beams} beams, {shape.length} tokens; "
        f"{shape.layers} text and {shape.layers} fusion layers of width {shape.width}, "
        f"{'masked' if masked else 'causal'}, {torch.get_num_threads()} threads"
    )
    require_equal(plain(it), ours(it))
    runs: list[Callable[[], object]] = [lambda: plain(it), lambda: ours(it)]
    print("\n".join(paired(runs[0], runs[1], rounds).lines()))


if __name__ == "__main__":
    main()

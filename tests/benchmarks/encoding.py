"""Embed image files and captions against a plain loop: `python -m tests.benchmarks.encoding`.

The files are JPEGs of 640 x 480 pixels. Captions have the lengths of COCO's, and each is drawn from a pool of half as
many, as titles and alternative texts of web pages repeat. The plain loop decodes a batch and encodes it, and then
encodes captions in their order, padded to the longest of their batch. Both loops use the same model and batch sizes.
The options make the model larger, and take another device.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from x2kit_fusion import CrossBert
from x2kit_timm import TimmViT
from x2kit_transformers import Bert

from tests.benchmarks.paired import paired
from tests.benchmarks.photographs import jpeg, photograph
from x2kit.inference import Model
from x2kit.model import build_model
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.model.device import choose_device

TOLERANCE = 1e-5
"""Largest difference of two numbers of a unit vector."""
SIZE = (640, 480)
CAPTIONS_OF_AN_IMAGE = 5
DISTINCT = 0.5
"""Distinct captions, as a share of all."""
WORDS = 6, 4.5, 38
"""Of a caption: the fewest, the mean beyond it (Poisson), the most."""
VOCABULARY = 2000
IMAGES_AT_ONCE, TEXTS_AT_ONCE = 64, 256


class Shape(NamedTuple):
    """Numbers of files, and sizes of the encoders. By default a small model, whose files cost as much as its layers."""

    images: int = 384
    side: int = 224
    width: int = 128
    layers: int = 3


class Work(NamedTuple):
    """Files and captions to embed."""

    files: list[Path]
    captions: list[str]


def work(shape: Shape, folder: Path, seed: int = 0) -> Work:
    """Write the files and draw the captions."""
    files = [folder / f"{number:05}.jpg" for number in range(shape.images)]
    pictures = [jpeg(photograph(number, *SIZE)) for number in range(min(16, shape.images))]
    for number, file in enumerate(files):
        file.write_bytes(pictures[number % len(pictures)])
    rng = np.random.default_rng(seed)
    fewest, beyond, most = WORDS
    count = CAPTIONS_OF_AN_IMAGE * shape.images
    lengths = (fewest + rng.poisson(beyond, int(DISTINCT * count))).clip(max=most)
    pool = [" ".join(f"word{id_}" for id_ in rng.integers(VOCABULARY, size=length)) for length in lengths]
    return Work(files, [pool[place] for place in rng.integers(len(pool), size=count)])


def model_of(shape: Shape, texts: list[str], device: str) -> Model:
    """Build a model with random weights."""
    torch.manual_seed(0)
    heads = max(1, shape.width // 64)
    config = ModelConfig(
        vision=TimmViT(
            image_size=shape.side,
            patch_size=16,
            width=shape.width,
            depth=shape.layers,
            heads=heads,
            drop_path=0.0,
        ),
        text=Bert(layers=shape.layers, width=shape.width, heads=heads),
        fusion=CrossBert(layers=1, heads=heads),
        heads=HeadsConfig(built=("itc", "itm")),
    )
    chosen = choose_device(device, "--device")
    return Model(build_model(config, texts=texts).to(chosen).eval(), "benchmark")


@torch.inference_mode()
def plain_images(model: Model, files: list[Path]) -> np.ndarray:
    """Decode and encode batch after batch."""
    module, rows = model.module, []
    for start in range(0, len(files), IMAGES_AT_ONCE):
        pixels = module.read(files[start : start + IMAGES_AT_ONCE])
        rows.append(module.project_images(module.encode_images(pixels).summary).cpu())
    return torch.cat(rows).numpy()


@torch.inference_mode()
def plain_texts(model: Model, captions: list[str]) -> np.ndarray:
    """Encode batch after batch, every caption, in order."""
    module, rows = model.module, []
    for start in range(0, len(captions), TEXTS_AT_ONCE):
        ids, mask = module.tokenize(captions[start : start + TEXTS_AT_ONCE])
        rows.append(module.project_texts(module.encode_texts(ids, mask)).cpu())
    return torch.cat(rows).numpy()


def our_images(model: Model, files: list[Path]) -> np.ndarray:
    """Embed as x2kit does."""
    return model.embed_images(files, batch_size=IMAGES_AT_ONCE, progress=False).vectors


def our_texts(model: Model, captions: list[str]) -> np.ndarray:
    """Embed as x2kit does."""
    return model.embed_texts(captions, batch_size=TEXTS_AT_ONCE, progress=False).vectors


def difference(model: Model, given: Work) -> float:
    """Return the largest difference of both ways."""
    images = plain_images(model, given.files) - our_images(model, given.files)
    texts = plain_texts(model, given.captions) - our_texts(model, given.captions)
    return float(max(np.abs(images).max(), np.abs(texts).max()))


def main() -> None:
    """Print sizes, difference, times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in Shape()._asdict().items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--processor", action="store_true", help="count seconds of all threads, which overlap hides"
    )
    options = vars(parser.parse_args())
    rounds, device = options.pop("rounds"), options.pop("device")
    clock = time.process_time if options.pop("processor") else time.perf_counter
    shape = Shape(**options)
    with tempfile.TemporaryDirectory() as folder:
        given = work(shape, Path(folder))
        model = model_of(shape, given.captions, device)
        print(
            f"{len(given.files)} files of {SIZE[0]} x {SIZE[1]} pixels, {len(given.captions)} captions, "
            f"{len(set(given.captions))} distinct; {shape.layers} layers of width {shape.width} on {model.device}, "
            f"{torch.get_num_threads()} threads"
        )
        found = difference(model, given)
        print(f"largest difference of vectors: {found:.1e}")
        if found > TOLERANCE:
            raise SystemExit(f"the vectors differ by more than {TOLERANCE}")
        for title, plain, ours in (
            ("images", lambda: plain_images(model, given.files), lambda: our_images(model, given.files)),
            (
                "captions",
                lambda: plain_texts(model, given.captions),
                lambda: our_texts(model, given.captions),
            ),
            (
                "both",
                lambda: (plain_images(model, given.files), plain_texts(model, given.captions)),
                lambda: (our_images(model, given.files), our_texts(model, given.captions)),
            ),
        ):
            print(f"\n{title}")
            print("\n".join(paired(plain, ours, rounds, clock=clock).lines()))


if __name__ == "__main__":
    main()

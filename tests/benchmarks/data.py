"""Measure the images that one core prepares in a second: x2kit against the plain PIL pipeline.

    python -m tests.benchmarks.data

Both start from the lines of a file with images in base64 and end with a batch of tensors, in two cases:

images      decoding, crop, size, flip and augmentation alone.
whole batch   also cleaning, tokenising, masking, padding and collating a caption of 12 words for each image, as a
              data worker does it; x2kit also reads the file by position and shuffles.

Seconds are those of the processor, on one thread.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from itertools import count, product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor
from x2kit_transformers import Bert

from tests.benchmarks.paired import paired
from tests.benchmarks.photographs import jpeg, photograph
from tests.benchmarks.plain_data import (
    PlainBatch,
    Resize,
    in_one_call,
    plain_batch,
    plain_image,
    rows_first,
)
from x2kit.data.config import DataConfig, StreamConfig, TransformConfig
from x2kit.data.pipeline.batch import Batch, PairedRows
from x2kit.data.pipeline.loader import StepBatches
from x2kit.data.pipeline.task_rows import draw_pretraining
from x2kit.data.sources.config import JsonLines
from x2kit.data.sources.json_lines import record_of
from x2kit.data.transforms.view import stack_pixels, unit_floats
from x2kit.plugin import ImageSpec, Tokenizer
from x2kit.tasks import ImageText

SIZES = ((640, 480), (1024, 768), (1280, 960))
SMALL = SIZES[:1]
SPEC = ImageSpec(size=224)
IMAGES, ROUNDS = 12, 8
WORDS = ["".join(letters) for letters in product(*["bdfgklmnprstvz", "aeiou", "bdfgklmnprstvz", "aeiou"])]


def lines(sizes: Sequence[tuple[int, int]], count: int) -> list[str]:
    """Build records with photographs of these sizes in turn."""
    found = []
    for number in range(count):
        image = base64.b64encode(jpeg(photograph(number, *sizes[number % len(sizes)]))).decode()
        found.append(json.dumps({"binary": image, "caption": caption(number)}))
    return found


def caption(number: int) -> str:
    """Build a caption of twelve words of an invented vocabulary."""
    return " ".join(WORDS[word] for word in np.random.default_rng(number).integers(0, len(WORDS), 12))


def plain_images(records: Sequence[str], config: StreamConfig, resize: Resize = in_one_call) -> Tensor:
    """Prepare images with PIL, one after the other: [M, 3, S, S]."""
    images = []
    for seed, line in enumerate(records):
        rng = np.random.default_rng(seed)
        images.append(plain_image(json.loads(line)["binary"], config.transform, SPEC.size, rng, resize))
    return torch.stack(images)


def images(records: Sequence[str], config: StreamConfig) -> Tensor:
    """Prepare images with x2kit, which also cleans the texts: [M, 3, S, S]."""
    source = config.source
    assert isinstance(source, JsonLines)
    samples = [
        draw_pretraining(
            config.task.build(),
            record_of(json.loads(line), source, ""),
            config,
            SPEC,
            np.random.default_rng(seed),
        )
        for seed, line in enumerate(records)
    ]
    return unit_floats(stack_pixels([sample.row.images[0] for sample in samples]))


def stream(file: Path = Path("photographs.jsonl"), **transform: object) -> StreamConfig:
    """Build an image-text stream with the paper's transform and some changes."""
    return StreamConfig(
        task=ImageText(),
        source=JsonLines(files=(file,)),
        batch_size=IMAGES,
        transform=TransformConfig.model_validate(transform),
    )


def main() -> None:
    """Check that both give equal pixels, then time them in alternation."""
    torch.set_num_threads(1)
    check(lines(SMALL, IMAGES))
    for sizes, reduced in ((SMALL, False), (SMALL, True), (SIZES, False), (SIZES, True)):
        shown = ", ".join(f"{width}×{height}" for width, height in sizes)
        print(f"\n{shown}, reduced_decoding {str(reduced).lower()}")
        with TemporaryDirectory() as folder:
            measure(sizes, stream(Path(folder) / "photographs.jsonl", reduced_decoding=reduced))


def measure(sizes: Sequence[tuple[int, int]], config: StreamConfig) -> None:
    """Time both cases on photographs of these sizes and print the result."""
    records, tokenizer = lines(sizes, IMAGES), Bert().build_tokenizer(map(caption, range(2000)))
    ours = whole_batches(records, config, tokenizer)
    require_equal_texts(plain_batch(records, config, SPEC.size, tokenizer), ours.batch(0), tokenizer)
    steps = count()
    cases = {
        "images": (lambda: plain_images(records, config), lambda: images(records, config)),
        "whole batch": (
            lambda: plain_batch(records, config, SPEC.size, tokenizer),
            lambda: ours.batch(next(steps)),
        ),
    }
    for name, (plain, our) in cases.items():
        ratio = paired(plain, our, ROUNDS, clock=time.process_time)
        rates = [IMAGES / median(seconds) for seconds in (ratio.plain, ratio.ours)]
        print(
            f"{name}: {rates[0]:.0f} images/s plain, {rates[1]:.0f} x2kit, ratio {ratio.value:.2f}",
            flush=True,
        )


def whole_batches(records: Sequence[str], config: StreamConfig, tokenizer: Tokenizer) -> StepBatches:
    """Write a file of these records and return the batches of a run over it."""
    assert isinstance(config.source, JsonLines)
    Path(config.source.files[0]).write_text("\n".join(records) + "\n")
    return StepBatches(DataConfig(streams={"photographs": config}), tokenizer, SPEC, 0, 10**6)


def require_equal_texts(plain: PlainBatch, ours: Batch, tokenizer: Tokenizer) -> None:
    """Raise SystemExit unless both have equal texts and numbers of masked tokens."""
    rows = ours.streams["photographs"]
    assert isinstance(rows, PairedRows)
    assert rows.masked is not None

    def of(ids: Tensor, labels: Tensor) -> list[tuple[list[int], int]]:
        return sorted(
            ([token for token in row.tolist() if token != tokenizer.special.pad], int((hidden >= 0).sum()))
            for row, hidden in zip(ids, labels, strict=True)
        )

    if of(plain.ids, plain.labels) != of(rows.texts.ids, rows.masked.labels):
        raise SystemExit("the two ways have other texts, or hide other numbers of tokens")


def difference(records: Sequence[str], config: StreamConfig) -> float:
    """Return the largest difference in grey levels."""
    return float((plain_images(records, config, rows_first) - images(records, config)).abs().max() * 255)


def check(records: Sequence[str]) -> None:
    """One grey level.

    Decoding, crop, flip and size are compared before augmentation, which would make more of that level; its operations
    are compared in `test_data.py`, on equal images.
    """
    levels = difference(records, stream(augment_operations=0))
    assert levels < 1.5, f"the pipelines differ by {levels:.1f} grey levels"
    print(f"largest difference after decoding, crop, flip and size: {levels:.0f} grey level")


if __name__ == "__main__":
    main()

"""How many pictures one core prepares in a second: x2kit against the plain PIL pipeline.

    python -m tests.benchmarks.data

Both start from the lines of a file with pictures in base64 and end with a batch of tensors. The last ratio is that of
photographs as the web has them, of several sizes, with `reduced_decoding`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from tests.benchmarks.paired import paired
from tests.benchmarks.photographs import jpeg, photograph
from tests.benchmarks.plain_data import Resize, in_one_call, plain_picture, rows_first
from x2kit.data.config import StreamConfig, TransformConfig
from x2kit.data.json_lines import JsonLines
from x2kit.data.record_fields import record_of
from x2kit.data.samples import image_sample
from x2kit.data.transforms import stack_pixels
from x2kit.plugin import ImageSpec

SIZES = ((640, 480), (1024, 768), (1280, 960))
SMALL = SIZES[:1]
SPEC = ImageSpec(size=224)
PICTURES, ROUNDS = 12, 8


def lines(sizes: Sequence[tuple[int, int]], count: int) -> list[str]:
    """Records with photographs of these sizes in turn."""
    found = []
    for number in range(count):
        picture = base64.b64encode(jpeg(photograph(number, *sizes[number % len(sizes)]))).decode()
        found.append(json.dumps({"binary": picture, "caption": f"photograph {number}"}))
    return found


def plain_batch(records: Sequence[str], config: StreamConfig, resize: Resize = in_one_call) -> Tensor:
    """[M, 3, S, S], one picture after the other through PIL."""
    pictures = []
    for seed, line in enumerate(records):
        rng = np.random.default_rng(seed)
        pictures.append(plain_picture(json.loads(line)["binary"], config.transform, SPEC.size, rng, resize))
    return torch.stack(pictures)


def batch(records: Sequence[str], config: StreamConfig) -> Tensor:
    """[M, 3, S, S], as x2kit prepares it; texts are cleaned on the way."""
    source = config.source
    assert isinstance(source, JsonLines)
    samples = [
        image_sample(record_of(json.loads(line), source, ""), config, SPEC, np.random.default_rng(seed))
        for seed, line in enumerate(records)
    ]
    return stack_pixels([sample.pixels for sample in samples])


def stream(**transform: object) -> StreamConfig:
    """An image-text stream with the paper's transform, and these changes."""
    return StreamConfig(
        kind="image-text",
        source=JsonLines(files=(Path("photographs.jsonl"),)),
        batch_size=1,
        transform=TransformConfig.model_validate(transform),
    )


def main() -> None:
    """Check that both show the same, then time them in turns."""
    torch.set_num_threads(1)
    check(lines(SMALL, PICTURES))
    for sizes, reduced in ((SMALL, False), (SMALL, True), (SIZES, False), (SIZES, True)):
        measure(sizes, stream(reduced_decoding=reduced))


def measure(sizes: Sequence[tuple[int, int]], config: StreamConfig) -> None:
    """Time both on photographs of these sizes, and print it."""
    records = lines(sizes, PICTURES)
    ratio = paired(lambda: plain_batch(records, config), lambda: batch(records, config), ROUNDS)
    shown = ", ".join(f"{width}×{height}" for width, height in sizes)
    print(f"\n{shown}, reduced_decoding {str(config.transform.reduced_decoding).lower()}")
    print(f"images/s: {PICTURES / median(ratio.plain):.0f} plain, {PICTURES / median(ratio.ours):.0f} x2kit")
    print("\n".join(ratio.lines()), flush=True)


def difference(records: Sequence[str], config: StreamConfig) -> float:
    """Grey levels between the two, at most."""
    return float((plain_batch(records, config, rows_first) - batch(records, config)).abs().max() * 255)


def check(records: Sequence[str]) -> None:
    """One grey level.

    Decoding, crop, flip and size are compared before augmentation, which would make more of that level; its operations
    are compared in `test_data.py`, on equal pictures.
    """
    levels = difference(records, stream(augment_operations=0))
    assert levels < 1.5, f"the pipelines differ by {levels:.1f} grey levels"
    print(f"largest difference after decoding, crop, flip and size: {levels:.0f} grey level")


if __name__ == "__main__":
    main()

"""Time an epoch with a frozen vision encoder, its features cached and not: `python -m tests.benchmarks.feature_cache`.

Photographs of 640×480 with a caption each, read from JPEG files; contrastive, matching and masked-language losses of 12
images a step. The same model makes the steps of both ways, whose losses are compared first. Seconds are those of the
processor, of one thread, decoding and updates of the trained parts included. `fill` is the time in which the cache is
computed, once.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
import yaml

from tests.benchmarks.data import caption
from tests.benchmarks.paired import paired
from tests.benchmarks.photographs import jpeg, photograph
from x2kit.data.pipeline.loader import StepBatches
from x2kit.io.atomic import format_bytes
from x2kit.recipe import read_recipe
from x2kit.training.feature_cache import with_cached_features
from x2kit.training.stepper import Stepper, assemble

IMAGES, ROWS, ROUNDS = 12, 12, 2
TOLERANCE = 1e-5
MODELS: dict[str, dict[str, Any]] = {
    "base": {},
    "small": {
        "vision": {"init_args": {"width": 384, "heads": 6}},
        "text": {"init_args": {"layers": 6, "width": 384, "heads": 6}},
        "fusion": {"init_args": {"layers": 3, "heads": 6}},
    },
}
"""Changes of official/x2vlm-base: images of 224 pixels, 12 layers of vision."""
TRAINED = {
    "text, fusion, heads": {"vision": "none"},
    "fusion, heads": {"vision": "none", "text": "none"},
}


class Case(NamedTuple):
    """A stepper, its batches in both ways, and the cost of the cache.

    Attributes:
        stepper: makes the steps of both.
        plain, cached: batches.
        fill: seconds in which the features were computed.
        image_bytes: of the features of an image.
    """

    stepper: Stepper
    plain: StepBatches
    cached: StepBatches
    fill: float
    image_bytes: int


def write_photographs(folder: Path, images: int) -> Path:
    """Write JPEG files with captions."""
    lines = []
    for number in range(images):
        (folder / f"{number}.jpg").write_bytes(jpeg(photograph(number, 640, 480)))
        lines.append(json.dumps({"image": f"{number}.jpg", "caption": caption(number)}))
    file = folder / "photographs.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


def make_case(folder: Path, model: dict[str, Any], trainable: dict[str, Any], images: int = IMAGES) -> Case:
    """Write the data and the recipe, and fill the cache."""
    tree = {
        "base": "official/x2vlm-base",
        "model": model,
        "data": {
            "feature_cache": str(folder / "features"),
            "streams": {
                "photographs": {
                    "task": "ImageText",
                    "source": {
                        "class_path": "JsonLines",
                        "init_args": {"files": [str(write_photographs(folder, images))], "language": "en"},
                    },
                    "batch_size": min(ROWS, images),
                    "transform": {"crop_scale": None, "flip": 0.0, "augment_operations": 0},
                }
            },
        },
        "training": {"steps": 1000, "device": "cpu", "lr": 1e-5, "trainable": trainable},
    }
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(tree))
    recipe = read_recipe([file]).recipe
    parts, _ = assemble(recipe, lambda message: None)
    start = time.process_time()
    cached = with_cached_features(recipe, parts, lambda message: None).batches
    fill = time.process_time() - start
    (layout,) = cached.features.values()
    return Case(Stepper(recipe, parts, 0), parts.batches, cached, fill, layout.image_bytes)


def require_equal(case: Case) -> float:
    """Return the largest difference of losses and gradient norm in a step. Raises SystemExit above the tolerance."""
    plain, ours = (case.stepper.differentiate(batches.batch(0)) for batches in (case.plain, case.cached))
    apart = max(abs(float(plain[name] - ours[name])) for name in plain.keys() | ours.keys())
    if not apart <= TOLERANCE:  # nor is NaN
        raise SystemExit(f"not equal: values of a step differ by {apart:.1e}, more than {TOLERANCE:.0e}")
    return apart


def measure(name: str, trained: str, rounds: int, images: int) -> float:
    """Time both ways of one case and print its line. Returns: the ratio."""
    with TemporaryDirectory() as folder:
        case = make_case(Path(folder), MODELS[name], TRAINED[trained], images)
        apart = require_equal(case)
        numbers = {id(batches): count() for batches in (case.plain, case.cached)}

        def epoch(batches: StepBatches) -> None:
            for _ in range(images // ROWS):
                case.stepper.step(batches.batch(next(numbers[id(batches)])))

        ratio = paired(lambda: epoch(case.plain), lambda: epoch(case.cached), rounds, clock=time.process_time)
    thousand = 1000 / images
    seconds = [thousand * each for each in (median(ratio.plain), median(ratio.ours), case.fill)]
    print(
        f"{name:6} {trained:20} {seconds[0]:8.0f} s {seconds[1]:6.0f} s {ratio.value:6.2f} {seconds[2]:8.0f} s"
        f"{format_bytes(1000 * case.image_bytes):>11}  {apart:.0e}",
        flush=True,
    )
    return ratio.value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="pairs of timed epochs")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"of an epoch, a multiple of {ROWS}")
    parser.add_argument("--model", choices=[*MODELS], help="only this one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"an epoch of 1,000 images, scaled from {options.images}")
    print("model  trained                without     with  ratio       fill       disk  losses differ by")
    ratios = [
        measure(name, trained, options.rounds, options.images)
        for name in ([options.model] if options.model else MODELS)
        for trained in TRAINED
    ]
    print(f"ratio: {ratios[0]:.2f}")


if __name__ == "__main__":
    main()

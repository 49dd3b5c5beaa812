"""`x2kit recipes scale`: predict the step of a recipe on many devices."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jsonargparse

from x2kit.cli.key_help import print_help
from x2kit.cli.recipe_keys import add_recipe_arguments, read
from x2kit.cli.recipes.costs import costs_as_json
from x2kit.errors import X2KitError
from x2kit.recipe.reading import ResolvedRecipe
from x2kit.recipe.validation import losses_on
from x2kit.terminal import PlainConsole
from x2kit.training.profiling.datasheets import DEFAULT_ACCELERATOR

if TYPE_CHECKING:
    from rich.table import Table

    from x2kit.training.profiling.scaling import Hardware, Prediction, Workload

HELP = "predict time, efficiency and bottleneck of a recipe's step on many devices, without running it"
RANKS = (8, 64, 512, 4096)
ADVICE = {
    "gradients": "more rows for each device",
    "features": "more rows for each device",
    "negatives": "training.negatives local",
    "exchanges": "more rows for each device",
    "data": "more cores for each device, smaller images, or images that are stored smaller",
    "checkpoint": "a larger training.checkpoint_every, training.async_saving true, or a faster disk",
}
"""Remedy by piece."""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add recipe, ranks and hardware."""
    add_recipe_arguments(parser)
    parser.add_argument(
        "--ranks",
        default=",".join(map(str, RANKS)),
        metavar="N,N,…",
        help="numbers of devices, one rank each",
    )
    parser.add_argument(
        "--hardware",
        default="h100",
        metavar="NAME|FILE",
        help="a100, h100, or a YAML or JSON file of the same keys with figures of your cluster",
    )
    parser.add_argument(
        "--grow",
        action="store_true",
        help="let the rows of a step grow with the ranks, from those of the recipe at the smallest number",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")


def run(options: jsonargparse.Namespace) -> int:
    """Predict a step for each number of ranks and print them."""
    names = [options.recipe] if options.recipe else []
    if options.recipe_keys.help:
        return print_help(options, names)
    from x2kit.training.profiling.scaling import predict, read_hardware

    ranks, hardware = _counts(options.ranks), read_hardware(options.hardware)
    resolved = read(options, names, checks="without data")
    streams = resolved.recipe.data.streams
    if not streams:
        raise X2KitError("data.streams: the recipe has no stream, so there is no step to predict; add one")
    work = workload_of(resolved)
    most = min(stream.records_a_step for stream in streams.values())
    possible = [number for number in ranks if options.grow or number <= most]
    if not possible:
        raise X2KitError(
            f"--ranks {options.ranks}: a stream of the recipe has {most} records a step, too few for so many ranks; "
            "raise its batch_size, or add --grow"
        )
    works = [work.grown(number / ranks[0] if options.grow else 1) for number in possible]
    found = [predict(each, hardware, number) for each, number in zip(works, possible, strict=True)]
    if options.json:
        print(json.dumps(_as_json(works, found, hardware), indent=2))
        return 0
    PlainConsole().print(_table(works, found))
    print(*_notes(found, hardware, [number for number in ranks if number not in possible], most), sep="\n")
    return 0


def workload_of(resolved: ResolvedRecipe) -> Workload:
    """Count operations, bytes and records of a recipe's step. Raises X2KitError if the model cannot be built."""
    from x2kit.training.profiling.scaling import Workload

    recipe = resolved.recipe
    costs = costs_as_json(resolved, DEFAULT_ACCELERATOR)
    training = recipe.training
    floats = 2 if training.precision in ("bf16", "fp16", "auto") else 4
    pairs = {
        name: stream for name, stream in recipe.data.streams.items() if stream.layout not in (None, "texts")
    }
    contrastive = [stream for stream in pairs.values() if "itc" in losses_on(stream)]
    matched = [stream for stream in pairs.values() if "itm" in losses_on(stream)]
    vision, text = recipe.model.vision.describe(), recipe.model.text.describe()
    patches = (vision.grid[0] * vision.grid[1] + 1) * vision.width
    longest = max((stream.max_tokens for stream in matched), default=0)
    return Workload(
        flops=costs["flops_per_step"],
        parameters=costs["parameters"],
        features=sum(2 * stream.batch_size for stream in contrastive),
        feature_bytes=4 * recipe.model.heads.embed_dim,
        fused=sum(min(stream.batch_size, stream.fusion_rows or stream.batch_size) for stream in matched),
        negative_bytes=floats * (patches + longest * text.width),
        records=costs["images_per_step"],
        checkpoint_bytes=3 * 4 * costs["parameters"],
        checkpoint_every=training.checkpoint_every,
        background=training.async_saving is not False and not training.sharded_checkpoints,
        distribution=training.distribution,
        negatives=training.negatives,
    )


def _counts(text: str) -> list[int]:
    numbers = [part.strip() for part in str(text).split(",")]
    if not all(number.isdigit() and int(number) > 0 for number in numbers):
        raise X2KitError(f"--ranks: expected whole numbers above 0 such as 8,64,512, found {text!r}")
    return sorted({int(number) for number in numbers})


def _as_json(works: Sequence[Workload], found: Sequence[Prediction], hardware: Hardware) -> dict[str, Any]:
    return {
        "hardware": hardware.model_dump(),
        "predictions": [
            {
                **one._asdict(),
                "seconds_per_step": one.seconds,
                "images_per_second": work.records / one.seconds,
                "efficiency": one.efficiency,
                "bottleneck": one.bottleneck if one.ranks > 1 else None,
            }
            for work, one in zip(works, found, strict=True)
        ],
    }


def _table(works: Sequence[Workload], found: Sequence[Prediction]) -> Table:
    from rich.table import Table

    table = Table("ranks", *(f"{one.ranks:,}" for one in found))
    table.add_row("milliseconds per step", *(_ms(one.seconds) for one in found))
    for piece in found[0]._fields[1:]:
        table.add_row(f"  {piece}", *(_ms(getattr(one, piece)) for one in found))
    images = (work.records / one.seconds for work, one in zip(works, found, strict=True))
    table.add_row("images/s", *(f"{number:,.0f}" for number in images))
    table.add_row("efficiency", *(f"{one.efficiency:.0%}" for one in found))
    return table


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.1f}"


def _notes(
    found: Sequence[Prediction], hardware: Hardware, impossible: Sequence[int], most: int
) -> Iterator[str]:
    """Yield what limits first, the ranks that are left out, and where the figures are from."""
    from x2kit.training.profiling.scaling import MIN_EFFICIENCY

    if (slow := next((one for one in found if one.efficiency < MIN_EFFICIENCY), None)) is not None:
        name = slow.bottleneck
        yield (
            f"first limit: {name}, at {slow.ranks:,} ranks {getattr(slow, name) / slow.seconds:.0%} of the step; "
            f"remedy: {ADVICE[name]}"
        )
    else:
        yield f"first limit: none; efficiency is {MIN_EFFICIENCY:.0%} or more at every number of ranks"
    if impossible:
        left_out = ", ".join(f"{number:,}" for number in impossible)
        yield f"left out: {left_out} ranks, as a stream has {most} records a step; --grow lets them grow"
    yield f"hardware: {hardware.sources}"

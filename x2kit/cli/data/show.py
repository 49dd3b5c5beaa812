"""`x2kit data show`: write the batch of a training step to one HTML file."""

from __future__ import annotations

from pathlib import Path

import jsonargparse

from x2kit.errors import X2KitError
from x2kit.recipe.reading import ResolvedRecipe
from x2kit.terminal import ByteProgress

HELP = "write a contact sheet of a step's batch: crops, boxes, masks, tokens"


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add step, output and rows."""
    parser.add_argument(
        "--step", type=int, default=1, metavar="N", help="step to show, from 1 to training.steps"
    )
    parser.add_argument(
        "--output", type=str, metavar="FILE", help="file to write; data-step-N.html by default"
    )
    parser.add_argument("--rows", type=int, default=32, metavar="N", help="maximum rows per stream")


def run(resolved: ResolvedRecipe, options: jsonargparse.Namespace) -> int:
    """Build the exact batch of the step and write its contact sheet."""
    recipe, facts = resolved.recipe, resolved.facts
    steps = recipe.training.steps
    if not 1 <= options.step <= steps:
        raise X2KitError(f"--step: should be from 1 to {steps}, found {options.step}")
    if options.rows < 1:
        raise X2KitError(f"--rows: should be 1 or more, found {options.rows}")
    assert facts is not None  # read with all checks
    from x2kit.data.pipeline.corpus import training_texts
    from x2kit.data.pipeline.loader import StepBatches  # imports torch
    from x2kit.evaluation.report.contact_sheet import draw_sheet
    from x2kit.interop.named_weights import initial_weights
    from x2kit.model.initialisation import build_started_tokenizer

    with ByteProgress() as progress:
        source = initial_weights(recipe, progress=progress)
    tokenizer = build_started_tokenizer(recipe.model, training_texts(recipe.data), source)
    batches = StepBatches(recipe.data, tokenizer, facts.vision.image, recipe.training.seed, steps)
    batch = batches.batch(options.step - 1)
    title = f"{resolved.label}: step {options.step} of {steps}"
    records = batches.task_records(options.step - 1)
    page = draw_sheet(batch, recipe.data, tokenizer, facts.vision, title, steps, options.rows, records)
    output = Path(options.output or f"data-step-{options.step}.html")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")
    print(output)
    return 0

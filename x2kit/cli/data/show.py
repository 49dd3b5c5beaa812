"""`x2kit data show`: what the model will see in a step, as one HTML file."""

from __future__ import annotations

from pathlib import Path

import jsonargparse

from x2kit.errors import X2KitError
from x2kit.recipe.reading import ResolvedRecipe

HELP = "write a contact sheet of what the model will see: crops, boxes, masks, tokens"


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Which step, where to, how much of it."""
    parser.add_argument(
        "--step", type=int, default=1, metavar="N", help="the step that is shown, from 1 to training.steps"
    )
    parser.add_argument("--output", type=str, metavar="FILE", help="the file; data-step-N.html by default")
    parser.add_argument(
        "--rows", type=int, default=32, metavar="N", help="most rows of each stream that are shown"
    )


def run(resolved: ResolvedRecipe, options: jsonargparse.Namespace) -> int:
    """Make the very batch of the step, draw it, write it."""
    recipe, facts = resolved.recipe, resolved.facts
    steps = recipe.training.steps
    if not 1 <= options.step <= steps:
        raise X2KitError(f"--step: the run has the steps 1 to {steps}, found {options.step}")
    if options.rows < 1:
        raise X2KitError(f"--rows: at least 1 row must be shown, found {options.rows}")
    assert facts is not None  # all checks were asked for
    from x2kit.data.pipeline.corpus import training_texts
    from x2kit.data.pipeline.loader import StepBatches
    from x2kit.evaluation.report.contact_sheet import draw_sheet
    from x2kit.model.initialisation import build_started_tokenizer

    tokenizer = build_started_tokenizer(recipe.model, training_texts(recipe.data))
    batches = StepBatches(recipe.data, tokenizer, facts.vision.image, recipe.training.seed, steps)
    batch = batches.batch(options.step - 1)
    title = f"{resolved.label}: step {options.step} of {steps}"
    page = draw_sheet(batch, recipe.data, tokenizer, facts.vision, title, steps, options.rows)
    output = Path(options.output or f"data-step-{options.step}.html")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")
    print(output)
    return 0

"""Estimate parameters, memory, FLOPs and time of recipes; imports torch only when called."""

from __future__ import annotations

from collections import Counter
from math import floor, log10
from typing import TYPE_CHECKING, Any

from x2kit.recipe.reading import ResolvedRecipe
from x2kit.recipe.validation import losses_on
from x2kit.training.profiling.datasheets import ACCELERATORS

if TYPE_CHECKING:
    from x2kit.model import X2VLM


UTILISATION = 0.35
"""Assumed share of the peak; `x2kit bench` measures it for a recipe and device."""


def hours(flops: float, accelerator: str, precision: str) -> float:
    """Estimate hours on one accelerator at the assumed utilisation; `auto` and fp16 count as bf16."""
    return flops / (ACCELERATORS[accelerator].peak(precision) * UTILISATION) / 3600


_models: dict[tuple[str, str], X2VLM] = {}
"""Cache of meta models by their settings; many recipes share one."""


def costs_as_json(resolved: ResolvedRecipe, accelerator: str) -> dict[str, Any]:
    """Estimate the costs of a recipe; costs per step are null without data.

    Weights and optimiser (gradients, its state and averages of weights, of trained parameters) are in bytes, unsharded,
    also by part of the model, with its trained and frozen parameters. Activations are in bytes per text row of the
    global batch, in float32, vision included.

    Raises: X2KitError if the model cannot be built.
    """
    from x2kit.training.optim.optimizer import state_sizes
    from x2kit.training.parts.trained import part_of, trained_parameters
    from x2kit.training.profiling.costs import BYTES, images_of, parameter_count, step_costs, tokens_of

    recipe = resolved.recipe
    model = model_of(resolved)
    parameters = parameter_count(model)
    kept = Counter[str]()
    for name, values in state_sizes(model, recipe.training).items():
        kept[part_of(name)] += values
    parts = {
        part: {
            "trained": trained,
            "frozen": frozen,
            "weights": BYTES * (trained + frozen),
            "optimiser": BYTES * (trained + kept[part]),
        }
        for part, (trained, frozen) in trained_parameters(model).items()
    }
    found: dict[str, Any] = {
        "parameters": parameters,
        "assumed_vocabulary": _assumed_vocabulary(resolved, model),
        "memory": {
            "weights": BYTES * parameters,
            "optimiser": sum(part["optimiser"] for part in parts.values()),
            "activations_per_sample": None,
        },
        "parts": parts,
        "flops_per_step": None,
        "tokens_per_step": None,
        "images_per_step": None,
        "rows_per_step": None,
        "accelerator": {"name": accelerator, "assumed_utilisation": UTILISATION},
        "gpu_hours": None,
    }
    streams = recipe.data.streams
    if not streams:
        return found
    image = recipe.model.vision.describe().image
    costs = step_costs(
        model, image, recipe.data, {name: losses_on(stream) for name, stream in streams.items()}
    )
    rows = sum(stream.batch_size for stream in streams.values())
    found["memory"]["activations_per_sample"] = costs.activations // rows
    return found | {
        "flops_per_step": costs.flops,
        "tokens_per_step": sum(map(tokens_of, streams.values())),
        "images_per_step": sum(map(images_of, streams.values())),
        "rows_per_step": rows,
        "gpu_hours": hours(costs.flops * recipe.training.steps, accelerator, recipe.training.precision),
    }


def _assumed_vocabulary(resolved: ResolvedRecipe, model: X2VLM) -> int | None:
    """Return the assumed vocabulary size of a tokenizer that has no texts to train on; else None."""
    from x2kit.plugin import IdsOnly

    trained = resolved.facts is not None and resolved.facts.text.vocab_size is None
    tokenizer = model.text.tokenizer
    return tokenizer.vocab_size if trained and isinstance(tokenizer, IdsOnly) else None


def model_of(resolved: ResolvedRecipe) -> X2VLM:
    """Build the model of a recipe on the meta device with its frozen parts, or return it from the cache."""
    from x2kit.training.parts.trained import select_trained
    from x2kit.training.profiling.costs import meta_model

    recipe, facts = resolved.recipe, resolved.facts
    trained = facts is None or facts.text.vocab_size is None  # vocabulary size depends on the data
    parts = recipe.training.trainable
    key = (
        recipe.model.model_dump_json() + parts.model_dump_json(),
        recipe.data.model_dump_json() if trained else "",
    )
    if key not in _models:
        model = meta_model(recipe.model, recipe.data)
        model.frozen = select_trained(model, parts).frozen
        _models[key] = model
    return _models[key]


def costs_as_text(found: list[dict[str, Any]]) -> str:
    """Format one line per recipe, and notes on the assumptions."""
    head = (
        "recipe",
        "",
        "parameters",
        "weights",
        "optimiser",
        "row",
        "FLOP/step",
        "tokens",
        "images",
        "time",
    )
    lines = [head, *(_line(entry) for entry in found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    table = [
        "  ".join(cell.ljust(width) if number < 2 else cell.rjust(width) for number, (cell, width) in cells)
        for cells in (list(enumerate(zip(line, widths, strict=True))) for line in lines)
    ]
    accelerators = [entry["accelerator"]["name"] for entry in found if "accelerator" in entry]
    notes = [
        f"time: one {accelerators[0]} at an assumed {UTILISATION:.0%} of its peak" if accelerators else "",
        *(
            f"{entry['recipe']}: texts not found; assuming the tokenizer's maximum vocabulary of {assumed:,} ids"
            for entry in found
            if (assumed := entry.get("assumed_vocabulary"))
        ),
        "row: activations in float32; tokens: all texts at max_tokens; steps of the global batch",
    ]
    return "\n".join([*table, *filter(None, notes)])


def parts_as_text(entry: dict[str, Any]) -> str:
    """Format the parts of one recipe's model: trained and frozen parameters, and the memory that follows."""
    head = ("part", "trained", "frozen", "weights", "optimiser")
    parts = entry["parts"]
    rows = [
        (
            part,
            f"{one['trained']:,}",
            f"{one['frozen']:,}",
            _gigabytes(one["weights"]),
            _gigabytes(one["optimiser"]),
        )
        for part, one in parts.items()
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    )


def _line(entry: dict[str, Any]) -> tuple[str, ...]:
    name = str(entry["recipe"])
    if "parameters" not in entry:
        return (name, "INVALID", *[""] * 8)
    memory = entry["memory"]
    figures = (f"{entry['parameters']:,}", _gigabytes(memory["weights"]), _gigabytes(memory["optimiser"]))
    if entry["flops_per_step"] is None:
        return (name, "ok", *figures, *["–"] * 5)
    return (
        name,
        "ok",
        *figures,
        f"{memory['activations_per_sample'] / 1e6:,.0f} MB",
        _scaled(entry["flops_per_step"]),
        f"{entry['tokens_per_step']:,}",
        f"{entry['images_per_step']:,}",
        _duration(entry["gpu_hours"]),
    )


def _scaled(count: float) -> str:
    """Format a count with three figures and a prefix: 377 T, 32.7 M."""
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if count >= factor:
            return f"{_figures(count / factor)} {prefix}"
    return f"{count:,.0f}"


def _duration(hours: float) -> str:
    """Format hours, minutes or seconds with three figures: 1,882 h, 12.5 min, 0.118 s."""
    for factor, unit in ((1.0, "h"), (1 / 60, "min")):
        if hours >= factor:
            return f"{_figures(hours / factor)} {unit}"
    return f"{_figures(hours * 3600)} s"


def _figures(value: float) -> str:
    """Format at least three figures without an exponent."""
    if value == 0:
        return "0"
    return f"{value:,.{max(0, 2 - floor(log10(abs(value))))}f}"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"

"""Summarise a resolved recipe: encoders, streams, losses, evaluation."""

from __future__ import annotations

from typing import Any

from x2kit.data.features.rules import cached_images
from x2kit.errors import X2KitError
from x2kit.io.atomic import format_bytes
from x2kit.plugin.component_faults import component_faults
from x2kit.recipe.reading import ResolvedRecipe
from x2kit.recipe.validation import losses_on, objectives_on


def counted(number: int, noun: str) -> str:
    """Format a number with its noun, `1 layer` or `2 layers`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def as_json(resolved: ResolvedRecipe) -> dict[str, Any]:
    """Return the summary as JSON values."""
    recipe, facts = resolved.recipe, resolved.facts
    model: dict[str, Any] = {}
    if facts is not None:
        model = {
            "vision": {
                "component": recipe.model.vision.component_name(),
                "image_size": facts.vision.image.size,
                "channels": facts.vision.image.channels,
                "grid": list(facts.vision.grid),
                "width": facts.vision.width,
            },
            "text": {
                "component": recipe.model.text.component_name(),
                "width": facts.text.width,
                "max_length": facts.text.max_length,
                "vocab_size": facts.text.vocab_size,
            },
            "fusion": {
                "component": recipe.model.fusion.component_name(),
                "width": facts.fusion.width,
                "layers": facts.fusion.layers,
            },
        }
        for part, description in model.items():
            reason = getattr(recipe.model, part).no_export()
            description |= {} if reason is None else {"no_export": reason}
    streams = {
        name: {
            "task": stream.task.component_name(),
            "source": stream.source.component_name(),
            "batch_size": stream.batch_size,
            "losses": {loss: stream.loss(loss).weight * stream.weight for loss in losses_on(stream)}
            | {name: stream.objectives[name].weight * stream.weight for name in objectives_on(stream)},
        }
        for name, stream in recipe.data.streams.items()
    }
    measured = recipe.evaluation
    evaluation = measured and {
        "source": measured.source.component_name(),
        "split": measured.split,
        "tasks": {name: task.component_name() for name, task in measured.tasks.items()},
    }
    return {
        "model": model,
        "streams": streams,
        "steps": recipe.training.steps,
        "evaluation": evaluation,
        "warnings": [vars(warning) for warning in resolved.warnings],
    } | _features(resolved)


def _features(resolved: ResolvedRecipe) -> dict[str, Any]:
    """Describe the cached features, if there are any; their number is null without the data.

    `bytes` are those of a view of an image in float32; bf16 and fp16 may take half of them. `images` counts views, and
    `reads` is how often a run reads each.
    """
    data, facts = resolved.recipe.data, resolved.facts
    if data.feature_cache is None or facts is None:
        return {}
    rows, columns = facts.vision.grid
    size = 4 * facts.vision.width * (1 + rows * columns)
    distinct = {}
    for stream_name, cached in cached_images(data).items():
        stream = data.streams[stream_name]
        name = stream.source.component_name()
        distinct[name, stream.source.model_dump_json(), stream.transform, cached] = stream.source
    found: dict[str, Any] = {"folder": str(data.feature_cache), "bytes": size, "images": None, "reads": None}
    try:
        images = 0
        for (*_, cached), source in distinct.items():
            with component_faults(source):
                images += len(source.open()) * cached.images * cached.views
    except X2KitError:
        return {"feature_cache": found}
    reads = resolved.recipe.training.steps * sum(
        data.streams[name].records_a_step * cached.images for name, cached in cached_images(data).items()
    )
    return {"feature_cache": found | {"images": images, "reads": reads / max(1, images)}}


def as_text(name: str, resolved: ResolvedRecipe) -> str:
    """Format the summary for the terminal."""
    facts = as_json(resolved)
    lines = [f"{name}: ok"]
    if facts["model"]:
        vision, text, fusion = (facts["model"][kind] for kind in ("vision", "text", "fusion"))
        size, (rows, columns) = vision["image_size"], vision["grid"]
        vocabulary = text["vocab_size"] or "to be trained on the run's texts"
        lines += [
            f"  vision  {vision['component']}: images {size}×{size}×{vision['channels']}, "
            f"grid {rows}×{columns}, width {vision['width']}",
            f"  text    {text['component']}: width {text['width']}, at most {text['max_length']} tokens, "
            f"vocabulary {vocabulary}",
            f"  fusion  {fusion['component']}: width {fusion['width']}, {counted(fusion['layers'], 'layer')}",
        ]
    lines += [
        f"  {part}    {fact['component']} cannot be exported (x2kit export): {fact['no_export']}"
        for part, fact in facts["model"].items()
        if "no_export" in fact
    ]
    for stream, fact in facts["streams"].items():
        losses = ", ".join(
            loss if weight == 1 else f"{loss} × {weight:g}" for loss, weight in fact["losses"].items()
        )
        lines.append(
            f"  stream  {stream}: {fact['task']} from {fact['source']}, {counted(fact['batch_size'], 'row')} per step; "
            f"{losses or 'no losses'}"
        )
    if features := facts.get("feature_cache"):
        size, images = features["bytes"], features["images"]
        total = ""
        if images is not None:
            number, reads = counted(images, "view"), features["reads"]
            total = f", {format_bytes(size * images)} for {number}, each read {reads:.2g} times"
        lines.append(
            f"  features cached in {features['folder']}: {format_bytes(size)} a view of an image in float32{total}"
        )
    if not facts["streams"]:
        lines.append("  no streams: describes a model, not a run")
    lines.append(f"  training {counted(facts['steps'], 'step')}")
    evaluation = facts["evaluation"]
    if evaluation:
        lines.append(
            f"  evaluation {evaluation['source']}, {evaluation['split']}: {', '.join(evaluation['tasks'])}"
        )
    return "\n".join(lines)

"""Warn about settings that are valid but likely wrong. Imports no torch.

A learning rate too high for published weights, random weights that are not trained, a warm-up longer than the run,
weights that are downloaded first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from x2kit.errors import Fault
from x2kit.hub.availability import availability
from x2kit.hub.names import parse_name
from x2kit.model.config import ENCODERS
from x2kit.plugin.components import ComponentConfig
from x2kit.recipe.schema import Recipe

TOO_FAST = 3.0
"""Multiple of the usual peak learning rate of published weights above which to warn."""


def warnings_of(recipe: Recipe, place: Callable[[str], str] = lambda key: "") -> tuple[Fault, ...]:
    """Warn about settings that are valid but likely wrong.

    Args:
        recipe: components resolved.
        place: returns the place of a key.
    """
    if not recipe.training.steps:
        return ()
    found = [
        *_downloads(recipe),
        *_published_weights(recipe),
        *_random_weights(recipe),
        *_warmup(recipe),
        *_teachers(recipe),
    ]
    return tuple(Fault(key, place(key), message) for key, message in found)


def _downloads(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Announce the download of initial weights, which may take long."""
    name = recipe.model.init_from
    if name is not None and (download := availability(parse_name(name)).download):
        yield "model.init_from", download


def _published_weights(recipe: Recipe) -> Iterator[tuple[str, str]]:
    training = recipe.training
    for kind in ENCODERS:
        encoder: ComponentConfig = getattr(recipe.model, kind)
        usual, own = encoder.usual_lr(), f"{kind}_lr"
        key = "lr" if getattr(training, own) is None else own
        rate = getattr(training, key)
        if usual is not None and rate > TOO_FAST * usual:
            yield (
                f"training.{key}",
                f"{rate:g} is {rate / usual:.3g} times the usual peak learning rate of the published weights of "
                f"model.{kind} and will destroy them\n  set training.{own}: {usual:g}; or training.lr: {usual:g} and "
                "training.lr_mult for new layers",
            )


def _random_weights(recipe: Recipe) -> Iterator[tuple[str, str]]:
    model, trainable = recipe.model, recipe.training.trainable
    for part in ENCODERS:
        encoder: ComponentConfig = getattr(model, part)
        given = model.init_from is not None and part not in model.init_except
        if trainable.of(part).base != "all" and not given and encoder.usual_lr() is None:
            yield (
                trainable.key(part),
                f"{encoder.component_name()} starts from random weights that this setting does not train\n  set "
                f"model.{part}.pretrained or model.init_from; or {trainable.key(part)}: all",
            )


def _warmup(recipe: Recipe) -> Iterator[tuple[str, str]]:
    training = recipe.training
    warmup = training.warmup_steps
    if warmup > training.steps:
        yield (
            "training.warmup",
            f"{warmup} warm-up steps exceed the {training.steps} steps of the run: learning rates end at "
            f"{(training.steps - 1) / warmup:.1%} of their peaks\n  set a share of the steps, training.warmup: 0.1, or "
            f"fewer than {training.steps}",
        )


def _teachers(recipe: Recipe) -> Iterator[tuple[str, str]]:
    for stream, config in recipe.data.streams.items():
        for name, teacher in config.teachers(recipe.model.init_from).items():
            if teacher is None:
                key = f"data.streams.{stream}.objectives.{name}"
                yield key, f"no teacher, so training will not start\n  set model.init_from, or {key}.teacher"

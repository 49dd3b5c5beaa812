"""A saved step made again, with a look at every module: where is the first number that is not finite? Imports torch.

Every look waits for the device. Nothing is updated and nothing written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from x2kit.data.pipeline.corpus import training_texts
from x2kit.data.pipeline.loader import StepBatches
from x2kit.model.build import without_initialisation
from x2kit.model.device import choose_device
from x2kit.model.initialisation import build_started
from x2kit.training.checkpoint.resume import restore_model
from x2kit.training.nonfinite.guard import broken
from x2kit.training.nonfinite.saved_step import load_step
from x2kit.training.optim.optimizer import build_optimizer
from x2kit.training.stepper import Parts, Recipe, Stepper


class Place(NamedTuple):
    """Where a number is not finite.

    Attributes:
        module: its name in the model.
        kind: its class.
        why: what is known of it, for people.
    """

    module: str
    kind: str
    why: str

    def __str__(self) -> str:
        return f"{self.module} ({self.kind}): {self.why}"


class ReplayResult(NamedTuple):
    """What a step gave when it was made again.

    Attributes:
        values: losses by stream, their sum, the norm of the gradient.
        before: the names that were not finite in the run.
        forward: the first module whose output is not finite; None if all are.
        backward: the first module, on the way back, whose gradient is not finite; None if all are.
    """

    values: dict[str, float]
    before: list[str]
    forward: Place | None
    backward: Place | None

    @property
    def broken(self) -> list[str]:
        """The names that are not finite now."""
        return broken(self.values)


def replay(folder: Path, recipe: Recipe, device: str | None = None) -> ReplayResult:
    """Make a saved step again.

    Args:
        folder: of the step, as training left it.
        recipe: that of the step, resolved.
        device: instead of the recipe's. Draws such as dropout differ between kinds of devices.
    Raises: CheckpointError if the folder is damaged; X2KitError if the device is not there.
    """
    saved, config = load_step(folder), recipe.training
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    on = choose_device(device or config.device)
    with without_initialisation():
        model, _ = build_started(recipe.model, training_texts(recipe.data))
    restore_model(model, saved.model)
    model.to(on).train()
    batches = StepBatches(recipe.data, model.tokenizer, model.image_spec, config.seed, config.steps)
    stepper = Stepper(recipe, Parts(model, build_optimizer(model, config), on, batches), saved.step)
    if stepper.scaler.is_enabled():
        stepper.scaler.load_state_dict(stepper.scaler.state_dict() | {"scale": saved.scale})
    with watched(model) as watch:
        found = stepper.differentiate(saved.batch)
    values = {name: float(value) for name, value in found.items()}
    return ReplayResult(values, saved.names, watch.forward, watch.backward())


class Watch:
    """Looks at what goes into and comes out of modules, and at the gradients of both.

    A module is where a gradient goes wrong if that of all its outputs is finite, and that of an input or of a parameter
    is not; of modules inside each other, the inner one.
    """

    def __init__(self) -> None:
        self.forward: Place | None = None
        self._kinds: dict[str, str] = {}
        self._arrived: dict[str, None] = {}  # modules whose output's gradient is not finite, in order
        self._left: dict[str, str] = {}  # modules with an input or parameter whose gradient is not, and which

    def inputs(self, name: str, module: nn.Module, values: Any) -> None:
        """A module is called."""
        self._kinds[name] = type(module).__name__
        for value in _floats(values):
            if value.requires_grad:
                value.register_hook(lambda gradient: self._note_left(name, "an input", gradient))  # type: ignore[no-untyped-call]

    def outputs(self, name: str, module: nn.Module, inputs: Any, values: Any) -> None:
        """A module returns."""
        for value in _floats(values):
            if value.requires_grad:
                value.register_hook(lambda gradient: self._note_arrived(name, gradient))  # type: ignore[no-untyped-call]
        if self.forward is None and not _all_finite(values):
            self.forward = Place(name, type(module).__name__, _why(module, inputs))

    def parameter(self, name: str, parameter: nn.Parameter) -> Any:
        """A parameter's gradient is to be looked at; returns the handle of its hook."""
        module, _, own = name.rpartition(".")
        return parameter.register_hook(lambda gradient: self._note_left(module, own, gradient))  # type: ignore[no-untyped-call]

    def _note_arrived(self, name: str, gradient: Tensor) -> None:
        if not gradient.isfinite().all():
            self._arrived.setdefault(name)

    def _note_left(self, name: str, of: str, gradient: Tensor) -> None:
        if not gradient.isfinite().all():
            self._left.setdefault(name, of)

    def backward(self) -> Place | None:
        """Where the gradient goes wrong, after the backward pass."""
        sources = [name for name in self._left if name not in self._arrived]
        for name in sources:
            if not any(other != name and other.startswith(f"{name}." if name else "") for other in sources):
                why = f"the gradient of its output is finite, that of {self._left[name]} is not"
                return Place(name or "the model", self._kinds.get(name, "X2VLM"), why)
        for name in self._arrived:
            return Place(name, self._kinds[name], "the gradient of its output is not finite where it arrives")
        return None


@contextmanager
def watched(model: nn.Module) -> Iterator[Watch]:
    """A look at every module of a model, while the block lasts."""
    watch = Watch()

    def hooks(name: str, module: nn.Module) -> list[Any]:
        return [
            module.register_forward_pre_hook(
                lambda module, values, named: watch.inputs(name, module, (values, named)), with_kwargs=True
            ),
            module.register_forward_hook(
                lambda module, values, named, out: watch.outputs(name, module, (values, named), out),
                with_kwargs=True,
            ),
        ]

    handles = [handle for name, module in model.named_modules() if name for handle in hooks(name, module)]
    handles += [
        watch.parameter(name, value) for name, value in model.named_parameters() if value.requires_grad
    ]
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()


def _floats(values: Any) -> Iterator[Tensor]:
    """The tensors of floating point numbers in what a module takes or gives."""
    if isinstance(values, Tensor):
        if values.is_floating_point():
            yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from _floats(value)
    elif isinstance(values, tuple | list):
        for value in cast(tuple[Any, ...], values):
            yield from _floats(value)


def _all_finite(values: Any) -> bool:
    return all(bool(value.isfinite().all()) for value in _floats(values))


def _why(module: nn.Module, inputs: Any) -> str:
    spoiled = [name for name, value in module.named_parameters() if not value.isfinite().all()]
    if spoiled:
        return f"its output is not finite; neither is its parameter {spoiled[0]}"
    arrived = "its inputs are" if _all_finite(inputs) else "neither are its inputs"
    return f"its output is not finite; {arrived}"

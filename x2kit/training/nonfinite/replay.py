"""Replay a saved step and find the first module with NaN or Inf. Imports torch.

Every check waits for the device. Nothing is updated or written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from x2kit.data.pipeline.loader import StepBatches
from x2kit.interop.named_weights import initial_weights
from x2kit.model.device import choose_device
from x2kit.training.checkpoint.resume import restore_model
from x2kit.training.nonfinite.guard import nonfinite_names
from x2kit.training.nonfinite.saved_step import load_step
from x2kit.training.optim.optimizer import build_optimizer
from x2kit.training.stepper import Parts, Recipe, Stepper, build_empty
from x2kit.training.teachers import load_teachers


class Place(NamedTuple):
    """The module that produced NaN or Inf.

    Attributes:
        module: its name in the model.
        kind: its class.
        reason: which of outputs, inputs, parameters and gradients are finite.
    """

    module: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.module} ({self.kind}): {self.reason}"


class ReplayResult(NamedTuple):
    """The outcome of a replayed step.

    Attributes:
        values: losses by stream, their sum, the gradient norm.
        before: names of values that were NaN or Inf in the run.
        forward: first module with a non-finite output; None if there is none.
        backward: first module of the backward pass with a non-finite gradient; None if there is none.
    """

    values: dict[str, float]
    before: list[str]
    forward: Place | None
    backward: Place | None

    @property
    def broken(self) -> list[str]:
        """Names of values that are NaN or Inf in the replay."""
        return nonfinite_names(self.values)


def replay(folder: Path, recipe: Recipe, device: str | None = None) -> ReplayResult:
    """Run forward and backward pass of a saved step, checking every module.

    Args:
        folder: of the step, written by training.
        recipe: of the step, resolved.
        device: overrides the recipe's. Random draws such as dropout differ between kinds of devices.
    Raises: CheckpointError if the folder is damaged; X2KitError if the device is unavailable.
    """
    saved, config = load_step(folder), recipe.training
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    chosen = choose_device(device or config.device)
    source = initial_weights(recipe)
    model, trained = build_empty(recipe, source)
    restore_model(model, saved.model)
    model.to(chosen).train()
    batches = StepBatches(recipe.data, model.tokenizer, model.image_spec, config.seed, config.steps)
    teachers = load_teachers(recipe, source, chosen)
    optimizer = build_optimizer(model, config)
    parts = Parts(model, optimizer, chosen, batches, teachers=teachers, trained=trained)
    stepper = Stepper(recipe, parts, saved.step)
    if stepper.scaler.is_enabled():
        stepper.scaler.load_state_dict(stepper.scaler.state_dict() | {"scale": saved.scale})
    with watch_modules(model) as watch:
        values = {name: float(value) for name, value in stepper.differentiate(saved.batch).items()}
    return ReplayResult(values, saved.names, watch.forward, watch.backward())


class ModuleWatch:
    """Check inputs, outputs and gradients of modules for NaN and Inf.

    The backward pass first fails in a module whose outputs all have finite gradients while an input or parameter does
    not; of nested modules, the innermost.
    """

    def __init__(self) -> None:
        self.forward: Place | None = None
        self._kinds: dict[str, str] = {}
        self._bad_outputs: dict[str, None] = {}  # modules with a non-finite output gradient, in order
        self._bad_inputs: dict[
            str, str
        ] = {}  # modules with a non-finite input or parameter gradient: which one

    def inputs(self, name: str, module: nn.Module, values: Any) -> None:
        """Watch the gradients of a module's inputs."""
        self._kinds[name] = type(module).__name__
        for value in _float_tensors(values):
            if value.requires_grad:
                value.register_hook(lambda gradient: self._check_input(name, "an input", gradient))  # type: ignore[no-untyped-call]

    def outputs(self, name: str, module: nn.Module, inputs: Any, values: Any) -> None:
        """Check a module's outputs and watch their gradients."""
        for value in _float_tensors(values):
            if value.requires_grad:
                value.register_hook(lambda gradient: self._check_output(name, gradient))  # type: ignore[no-untyped-call]
        if self.forward is None and not _all_finite(values):
            self.forward = Place(name, type(module).__name__, _forward_reason(module, inputs))

    def parameter(self, name: str, parameter: nn.Parameter) -> Any:
        """Watch the gradient of a parameter; return the handle of its hook."""
        module, _, own = name.rpartition(".")
        return parameter.register_hook(lambda gradient: self._check_input(module, own, gradient))  # type: ignore[no-untyped-call]

    def _check_output(self, name: str, gradient: Tensor) -> None:
        if not gradient.isfinite().all():
            self._bad_outputs.setdefault(name)

    def _check_input(self, name: str, of: str, gradient: Tensor) -> None:
        if not gradient.isfinite().all():
            self._bad_inputs.setdefault(name, of)

    def backward(self) -> Place | None:
        """Return the first module of the backward pass with a non-finite gradient."""
        sources = [name for name in self._bad_inputs if name not in self._bad_outputs]
        for name in sources:
            if not any(other != name and other.startswith(f"{name}." if name else "") for other in sources):
                reason = f"the gradient of its output is finite, that of {self._bad_inputs[name]} is not"
                return Place(name or "the model", self._kinds.get(name, "X2VLM"), reason)
        for name in self._bad_outputs:
            return Place(name, self._kinds[name], "the gradient of its output is not finite")
        return None


@contextmanager
def watch_modules(model: nn.Module) -> Iterator[ModuleWatch]:
    """Register hooks on every module and parameter of a model while the block runs."""
    watch = ModuleWatch()

    def hooks(name: str, module: nn.Module) -> list[Any]:
        return [
            module.register_forward_pre_hook(
                lambda module, args, kwargs: watch.inputs(name, module, (args, kwargs)), with_kwargs=True
            ),
            module.register_forward_hook(
                lambda module, args, kwargs, out: watch.outputs(name, module, (args, kwargs), out),
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


def _float_tensors(values: Any) -> Iterator[Tensor]:
    """Yield the floating-point tensors in nested inputs or outputs of a module."""
    leaves = tree_leaves(values)
    return (leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point())


def _all_finite(values: Any) -> bool:
    return all(bool(value.isfinite().all()) for value in _float_tensors(values))


def _forward_reason(module: nn.Module, inputs: Any) -> str:
    bad = [name for name, value in module.named_parameters() if not value.isfinite().all()]
    if bad:
        return f"its output is not finite; neither is its parameter {bad[0]}"
    return f"its output is not finite; its inputs {'are' if _all_finite(inputs) else 'are not finite either'}"

"""Build model, data and optimiser of a run, and make optimiser steps. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from x2kit.data.config import DataConfig
from x2kit.data.pipeline.batch import Batch, to_device
from x2kit.data.pipeline.corpus import training_texts
from x2kit.data.pipeline.loader import StepBatches
from x2kit.data.pipeline.order import Share
from x2kit.data.pipeline.sharing import require_shares
from x2kit.data.pipeline.transfer import Fed, feed
from x2kit.distributed.processes import ALONE, Processes
from x2kit.errors import X2KitError
from x2kit.hub.names import NamedWeights
from x2kit.interop.named_weights import initial_weights
from x2kit.model import X2VLM
from x2kit.model.build import without_initialisation
from x2kit.model.config import ModelConfig
from x2kit.model.device import (
    autocast,
    choose_device,
    choose_precision,
    use_deterministic_algorithms,
    use_matmul_precision,
)
from x2kit.model.initialisation import Initialisation, build_started
from x2kit.training.config import TrainingConfig
from x2kit.training.nonfinite.guard import Guard
from x2kit.training.optim.averaging import AveragedWeights
from x2kit.training.optim.optimizer import build_optimizer, clip_gradients, rate_factor, set_rate
from x2kit.training.parallel.activation_checkpointing import checkpoint_activations
from x2kit.training.parallel.compile import compile_layers
from x2kit.training.parallel.distribute import Distributed, distribute
from x2kit.training.parts.trained import TrainedParts, describe, select_trained
from x2kit.training.step.accumulation import accumulate, describe_accumulation
from x2kit.training.step.losses import step_losses
from x2kit.training.step.metrics import StepMetrics, temperatures
from x2kit.training.step.objectives import Objectives, build_objectives
from x2kit.training.step.plan import Active, Losses
from x2kit.training.step.tasks import build_tasks
from x2kit.training.teachers import Teacher, load_teachers


class Validation(Protocol):
    """The key of `evaluation` that training reads."""

    @property
    def every(self) -> int | None: ...


class Recipe(Protocol):
    """Sections of a recipe that training reads; see `x2kit.Recipe`."""

    @property
    def model(self) -> ModelConfig: ...
    @property
    def data(self) -> DataConfig: ...
    @property
    def training(self) -> TrainingConfig: ...
    @property
    def evaluation(self) -> Validation | None: ...
    def to_yaml(self) -> str: ...


def with_one_precision(recipe: Recipe, processes: Processes) -> Recipe:
    """Replace precision "auto" by the choice of rank 0; the run records it, so that every rank and resume has the same.

    Raises: X2KitError for an unavailable device.
    """
    config = recipe.training
    if config.precision != "auto":
        return recipe
    own = choose_precision("auto", choose_device(config.device)) if processes.is_rank_zero else None
    training = config.model_copy(update={"precision": processes.from_rank_zero(own)})
    fixed: Recipe = recipe.model_copy(update={"training": training})  # type: ignore[attr-defined]
    return fixed


class Parts(NamedTuple):
    """Objects that a stepper works on; `distributed` is None in a run of one rank, `source` without `init_from`.

    `teachers` are those of the streams that have one.
    """

    model: X2VLM
    optimizer: torch.optim.Optimizer
    device: torch.device
    batches: StepBatches
    processes: Processes = ALONE
    distributed: Distributed | None = None
    source: NamedWeights | None = None
    teachers: Mapping[str, Teacher] = {}
    trained: TrainedParts = TrainedParts()


def assemble(
    recipe: Recipe,
    say: Callable[[str], None],
    processes: Processes = ALONE,
    on_model: Callable[[X2VLM], None] = lambda model: None,
) -> tuple[Parts, Initialisation | None]:
    """Build the parts of a run in their state before the first step.

    Args:
        recipe: resolved.
        say: receives messages about the features that are on.
        processes: ranks of the run.
        on_model: callback with the model before it is wrapped, compiled or sharded.
    Returns: parts, and the source of the initial weights if they are those of another model.
    Raises: X2KitError if the recipe needs a device or compiler that this machine lacks.
    """
    config = recipe.training
    torch.manual_seed(config.seed)
    source = initial_weights(recipe, processes)
    model, initialisation = build_started(recipe.model, training_texts(recipe.data), source)
    trained = select_trained(model, config.trainable)
    if not config.trainable.everything:
        say(describe(model, config.trainable))
    on_model(model)
    share = Share(processes.rank, processes.count)
    ranks = (lambda: processes.of_workers().gather) if processes.several else None
    require_shares(recipe.data, processes.count)
    device = choose_device(config.device)
    teachers = load_teachers(recipe, source, device, processes)
    batches = StepBatches(
        *(recipe.data, model.tokenizer, model.image_spec, config.seed, config.steps, share, ranks),
        {name: teacher.tokens for name, teacher in teachers.items()},
    )
    model.train()
    if not processes.several:
        model.to(device)
    if config.compile:
        say(f"training.compile: {compile_layers(model, device)} layers, compiled at their first call")
    if config.accumulation > 1:
        say(describe_accumulation(model, config.accumulation))
    if config.activation_checkpointing:
        precision = choose_precision(config.precision, device)
        chosen = config.activation_checkpointing
        names = None if isinstance(chosen, bool) else chosen
        layers = checkpoint_activations(model, lambda: autocast(device, precision), names)
        say(f"training.activation_checkpointing: {layers} layers are recomputed in the backward pass")
    distributed = None
    if processes.several:
        distributed = distribute(model, config, processes, device)
        say(f"{processes.count} ranks, training.distribution {config.distribution}")
    optimizer = build_optimizer(model, config)
    parts = Parts(model, optimizer, device, batches, processes, distributed, source, teachers, trained)
    return parts, initialisation


def build_empty(recipe: Recipe, source: NamedWeights | None) -> tuple[X2VLM, TrainedParts]:
    """Build the model of a run, with its adapters, for weights that are loaded afterwards."""
    with without_initialisation():
        model, _ = build_started(recipe.model, training_texts(recipe.data), source)
        return model, select_trained(model, recipe.training.trainable)


@dataclass
class Stepper:
    """Make optimiser steps; writes no files.

    Attributes:
        recipe: resolved.
        parts: from `assemble`.
        done: steps done so far.
    """

    recipe: Recipe
    parts: Parts
    done: int

    def __post_init__(self) -> None:
        self.model, self.optimizer, self.device, self.batches, self.processes, self.distributed = self.parts[
            :6
        ]
        if self.recipe.training.deterministic:
            use_deterministic_algorithms()
        self.precision = choose_precision(self.recipe.training.precision, self.device)
        use_matmul_precision(self.precision)  # autocast does not cover the backward pass
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.objectives = build_objectives(self.recipe.data, self.parts.teachers)
        self.tasks = build_tasks(self.recipe.data)
        maximum = None if self.distributed is None else self.distributed.maximum
        self.averages = AveragedWeights(self.model, self.optimizer, self.recipe.training)
        self.guard = Guard(self.model, self.recipe.training, self.device, self.precision, maximum)

    def feed(self) -> Generator[Fed]:
        """Yield the batches of the remaining steps, on the host and on the device; close it to end the data workers."""
        return feed(self.batches.iterate(self.done), self.device)

    def step(self, batch: Batch) -> dict[str, Tensor | float]:
        """Make one optimiser step; its update is skipped if a value is NaN or Inf."""
        config = self.recipe.training
        factor = rate_factor(self.done, config)
        set_rate(self.optimizer, factor)
        self.guard.begin()
        values = self.differentiate(batch)
        self.guard.update(self.optimizer, self.done, values)
        self.averages.update(self.done)
        self.scaler.update()
        return {**values, "lr": config.lr * factor, **temperatures(self.model)}

    def differentiate(self, batch: Batch) -> dict[str, Tensor]:
        """Compute losses and clipped gradients of a step, and the gradient norm before clipping.

        Random draws depend on (seed, step) alone, so that a resumed run repeats them.
        """
        config, data = self.recipe.training, self.recipe.data
        torch.manual_seed(_seed(config.seed, self.done, self.processes.rank))
        self.model.clamp_temperature()
        self.parts.trained.begin(self.model, self.done)
        active = {name: stream.losses_on(self.done, config.steps) for name, stream in data.streams.items()}
        self.optimizer.zero_grad(set_to_none=True)
        self.metrics, batch = StepMetrics(), to_device(batch, self.device)
        self.metrics.padding(batch.streams)
        losses, total = self._backpropagate(batch, active)
        if self.distributed is not None:
            self.distributed.average()
        self.parts.trained.drop_gradients(self.model, self.done)
        values = {
            f"{name}.{loss}": value.detach() for name, on in losses.items() for loss, value in on.items()
        }
        if self.scaler.is_enabled():
            values["loss_scale"] = self.scaler.scale(torch.ones((), device=self.device))
            self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.model, config.clip_norm)
        return {"loss": total.detach(), **values, "gradient_norm": norm}

    def _backpropagate(self, batch: Batch, active: Active) -> tuple[Losses, Tensor]:
        """Compute the losses of a step and their weighted sum, and backpropagate it."""
        config, data = self.recipe.training, self.recipe.data
        objectives: Objectives = {
            name: {key: built[key] for key in data.streams[name].objectives_on(self.done, config.steps)}
            for name, built in self.objectives.items()
        }
        exchange = None
        if self.distributed is not None:
            exchange = self.distributed.exchange
            exchange.generator.manual_seed(_seed(config.seed, self.done))  # the same on every rank
        if config.accumulation > 1:
            losses = accumulate(
                self.model,
                batch,
                active,
                config.accumulation,
                self.weight,
                forward_context=lambda: autocast(self.device, self.precision),
                metrics=self.metrics,
                backward=self.backward,
                exchange=exchange,
                objectives=objectives,
                tasks=self.tasks,
                call=None if self.distributed is None else self.distributed.part,
                last_backward=None if self.distributed is None else self.distributed.last_backward,
            )
            return losses, self.total(losses)
        forward = partial(step_losses, self.model)
        if self.distributed is not None:
            forward = partial(self.distributed.forward, step_losses)
        with autocast(self.device, self.precision):
            losses = forward(
                batch,
                active,
                exchange=exchange,
                metrics=self.metrics,
                objectives=objectives,
                tasks=self.tasks,
            )
        total = self.total(losses)
        self.backward(total)
        return losses, total

    def backward(self, total: Tensor) -> None:
        """Backpropagate the total of a step, scaled in fp16. Raises X2KitError if no trained parameter is reached."""
        if not total.requires_grad:
            raise X2KitError(
                f"step {self.done}: no loss that is on depends on a trained parameter; see training.trainable"
            )
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]

    def weight(self, stream: str, loss: str) -> float:
        """Return the weight of a stream's loss or objective in the total."""
        config = self.recipe.data.streams[stream]
        return config.weight * (config.objectives.get(loss) or config.loss(loss)).weight

    def total(self, losses: dict[str, dict[str, Tensor]]) -> Tensor:
        """Sum the weighted losses of a step; the last operation of the forward pass."""
        terms = [
            value * self.weight(name, loss)
            for name in self.recipe.data.streams
            for loss, value in losses.get(name, {}).items()
        ]
        if not terms:
            raise X2KitError(f"step {self.done}: no loss is on; see data.streams.*.losses")
        return torch.stack(terms).sum()


def _seed(seed: int, step: int, rank: int = 0) -> int:
    """Mix seed, step and rank: odd factors give neighbouring values different seeds."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + rank * 0xA24BAED4963EE407 + 1) % 2**63

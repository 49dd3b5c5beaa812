"""What makes the steps of a run: its parts, put together, and one optimiser step. Imports torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor

from x2kit.data.config import DataConfig, LossName
from x2kit.data.pipeline.batch import Batch, to_device
from x2kit.data.pipeline.corpus import training_texts
from x2kit.data.pipeline.loader import StepBatches
from x2kit.data.pipeline.order import Share
from x2kit.data.pipeline.sharing import require_shares
from x2kit.distributed.processes import ALONE, Processes
from x2kit.errors import X2KitError
from x2kit.model import X2VLM
from x2kit.model.config import ModelConfig
from x2kit.model.device import (
    autocast,
    choose_device,
    choose_precision,
    use_deterministic_algorithms,
)
from x2kit.model.initialisation import Initialisation, build_started
from x2kit.training.config import TrainingConfig
from x2kit.training.nonfinite.guard import Guard
from x2kit.training.optim.optimizer import build_optimizer, clip_gradients, rate_factor, set_rate
from x2kit.training.parallel.activation_checkpointing import checkpoint_activations
from x2kit.training.parallel.compile import compile_layers
from x2kit.training.parallel.distribute import Distributed, distribute
from x2kit.training.step.accumulation import accumulate, describe_accumulation, require_whole_model
from x2kit.training.step.losses import Active, Losses, step_losses
from x2kit.training.step.metrics import StepMetrics, temperatures
from x2kit.training.step.objectives import Objectives, build_objectives
from x2kit.training.step.remote_rows import RankExchange


class Recipe(Protocol):
    """What training needs of a recipe; `x2kit.Recipe` has it."""

    @property
    def model(self) -> ModelConfig: ...
    @property
    def data(self) -> DataConfig: ...
    @property
    def training(self) -> TrainingConfig: ...
    def to_yaml(self) -> str: ...


class Parts(NamedTuple):
    """What makes the steps of a run."""

    model: X2VLM
    optimizer: torch.optim.Optimizer
    device: torch.device
    batches: StepBatches
    processes: Processes = ALONE
    distributed: Distributed | None = None


def assemble(
    recipe: Recipe,
    say: Callable[[str], None],
    processes: Processes = ALONE,
    built: Callable[[X2VLM], None] = lambda model: None,
) -> tuple[Parts, Initialisation | None]:
    """The parts of a run as they are before its first step.

    Args:
        recipe: resolved.
        say: told what was switched on, for people.
        processes: who makes the steps.
        built: called with the model before anything is wrapped, compiled or sharded.
    Returns: parts, and where the model's weights began if they came from another's.
    Raises: X2KitError if the recipe asks for what this machine does not have.
    """
    config = recipe.training
    require_whole_model(config, processes)
    torch.manual_seed(config.seed)
    model, began = build_started(recipe.model, training_texts(recipe.data))
    built(model)
    share = Share(processes.rank, processes.count)
    gather = processes.gather if processes.several else None
    require_shares(recipe.data, processes.count)
    batches = StepBatches(
        recipe.data, model.tokenizer, model.image_spec, config.seed, config.steps, share, gather
    )
    device = choose_device(config.device)
    model.to(device).train()
    if config.compile:
        say(f"training.compile: {compile_layers(model, device)} layers, compiled when they are first called")
    if config.accumulation > 1:
        say(describe_accumulation(model, config.accumulation))
    if config.activation_checkpointing:
        precision = choose_precision(config.precision, device)
        layers = checkpoint_activations(model, lambda: autocast(device, precision))
        say(f"training.activation_checkpointing: {layers} layers are computed again on the way back")
    distributed = None
    if processes.several:
        distributed = distribute(model, config, processes, device)
        say(f"{processes.count} processes, training.distribution {config.distribution}")
    return Parts(model, build_optimizer(model, config), device, batches, processes, distributed), began


@dataclass
class Stepper:
    """Makes optimiser steps, and writes nothing."""

    recipe: Recipe
    parts: Parts
    done: int

    def __post_init__(self) -> None:
        self.model, self.optimizer, self.device, self.batches, self.processes, self.distributed = self.parts
        if self.recipe.training.deterministic:
            use_deterministic_algorithms()
        self.precision = choose_precision(self.recipe.training.precision, self.device)
        share = None if self.distributed is None else self.distributed.maximum
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.objectives = build_objectives(self.recipe.data)
        self.guard = Guard(self.model, self.recipe.training, self.device, self.precision, share)

    def step(self, batch: Batch) -> dict[str, Tensor | float]:
        """One optimiser step, whose update is left out if it would spoil the parameters."""
        config = self.recipe.training
        factor = rate_factor(self.done, config)
        set_rate(self.optimizer, factor)
        self.guard.begin()
        found = self.differentiate(batch)
        self.guard.update(self.optimizer, self.done, found)
        self.scaler.update()
        values: dict[str, Tensor | float] = {**found, "lr": config.lr * factor}
        return values | temperatures(self.model)

    def differentiate(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a step and the norm of its gradient, which is then at the parameters, clipped.

        All draws follow (seed, step), so that a resumed run makes the same ones.
        """
        config, data = self.recipe.training, self.recipe.data
        torch.manual_seed(_seed(config.seed, self.done, self.processes.rank))
        self.model.clamp_temperature()
        active = {name: stream.losses_on(self.done, config.steps) for name, stream in data.streams.items()}
        self.optimizer.zero_grad(set_to_none=True)
        self.measures, batch = StepMetrics(), to_device(batch, self.device)
        self.measures.padding(batch.streams)
        losses, total = self._differentiated(batch, active)
        if self.distributed is not None:
            self.distributed.average()
        found = {
            f"{name}.{loss}": value.detach() for name, on in losses.items() for loss, value in on.items()
        }
        if self.scaler.is_enabled():
            found["loss_scale"] = self.scaler.scale(torch.ones((), device=self.device))
            self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.model, config.clip_norm)
        return {"loss": total.detach(), **found, "gradient_norm": norm}

    def _losses(self, batch: Batch, active: Active) -> Losses:
        if self.distributed is None:
            return step_losses(
                self.model, batch, active, measures=self.measures, objectives=self._objectives()
            )
        found: Losses = self.distributed.forward(
            step_losses,
            batch,
            active,
            partners=self._partners(),
            measures=self.measures,
            objectives=self._objectives(),
        )
        return found

    def _objectives(self) -> Objectives:
        """Those that are on at this step."""
        steps, streams = self.recipe.training.steps, self.recipe.data.streams
        return {
            name: {own: built[own] for own in streams[name].objectives_on(self.done, steps)}
            for name, built in self.objectives.items()
        }

    def _partners(self) -> RankExchange | None:
        """The other processes, who draw from the same numbers in this step."""
        if self.distributed is None:
            return None
        self.distributed.partners.generator.manual_seed(_seed(self.recipe.training.seed, self.done))
        return self.distributed.partners

    def _differentiated(self, batch: Batch, active: Active) -> tuple[Losses, Tensor]:
        """The losses of a step and their total, whose gradients are then at the parameters."""
        parts = self.recipe.training.accumulation
        if parts > 1:
            losses = accumulate(
                self.model,
                batch,
                active,
                parts,
                self.weight,
                around=lambda: autocast(self.device, self.precision),
                measures=self.measures,
                backward=self._backward,
                partners=self._partners(),
                objectives=self._objectives(),
            )
            return losses, self.total(losses)
        with autocast(self.device, self.precision):
            losses = self._losses(batch, active)
        total = self.total(losses)
        self._backward(total)
        return losses, total

    def _backward(self, total: Tensor) -> None:
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]

    def weight(self, stream: str, loss: str) -> float:
        """What a stream's loss is multiplied by in the total."""
        config = self.recipe.data.streams[stream]
        own = config.objectives.get(loss) or config.loss(cast(LossName, loss))
        return config.weight * own.weight

    def total(self, losses: dict[str, dict[str, Tensor]]) -> Tensor:
        """The weighted sum of a step's losses; the forward pass ends with it."""
        terms = [
            value * self.weight(name, loss)
            for name in self.recipe.data.streams
            for loss, value in losses.get(name, {}).items()
        ]
        if not terms:
            raise X2KitError(f"step {self.done}: no loss is on; see data.streams.*.losses")
        return torch.stack(terms).sum()


def _seed(seed: int, step: int, rank: int = 0) -> int:
    """Neighbouring steps, seeds and processes must not share draws; the odd factors keep them apart."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + rank * 0xA24BAED4963EE407 + 1) % 2**63

"""Requests to stop: Ctrl-C, and the SIGTERM of a batch system. Imports no torch."""

from __future__ import annotations

import math
import signal
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import torch
import yaml

from x2kit.data.config import DataConfig, Phase, loss_phases
from x2kit.data.pipeline.batch import Batch
from x2kit.data.pipeline.corpus import training_texts
from x2kit.data.pipeline.loader import StepBatches
from x2kit.data.pipeline.workers import worker_deaths
from x2kit.distributed.processes import ALONE, Processes
from x2kit.errors import PluginError, X2KitError
from x2kit.io.atomic import atomic_folder, storage_errors
from x2kit.io.run_directory import INITIALISATION, TRACEBACK, run_lock
from x2kit.model import X2VLM, save_weights
from x2kit.model.build import without_initialisation
from x2kit.model.device import choose_precision, describe_device
from x2kit.model.initialisation import build_started
from x2kit.model.saved_recipe import plugins_of
from x2kit.model.saving import WEIGHTS
from x2kit.plugin.loading.manager import Plugins
from x2kit.plugin.loading.trust import remember
from x2kit.plugin.reporters import RunFacts
from x2kit.training.checkpoint.named_tensors import model_tensors, optimizer_tensors, without_tensors
from x2kit.training.checkpoint.resume import require_same_data, restore, resume_from
from x2kit.training.checkpoint.writer import CheckpointWriter
from x2kit.training.config import TrainingConfig
from x2kit.training.logging.bad_records import BadRecordsOfRun
from x2kit.training.logging.callbacks import Callbacks
from x2kit.training.logging.progress import StepProgress
from x2kit.training.logging.run_record import RunRecord
from x2kit.training.logging.watch import LossWatch
from x2kit.training.nonfinite.guard import nonfinite_names
from x2kit.training.nonfinite.saved_step import SavedStep, save_and_describe
from x2kit.training.parallel.distribute import gathered
from x2kit.training.profiling.costs import phase_costs
from x2kit.training.step.metrics import region_images
from x2kit.training.stepper import Parts, Recipe, Stepper, assemble


@contextmanager
def stop_requests(passed_on: bool = False) -> Iterator[list[int]]:
    """A list that fills when the process is asked to stop (Ctrl-C, SIGTERM); a second Ctrl-C stops at once.

    Args:
        passed_on: a launcher sends each Ctrl-C once more, as torchrun does, so a second one is the third signal.
    """
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if len(asked) > passed_on and number == signal.SIGINT:
            raise KeyboardInterrupt("stopped at once; the newest checkpoint is kept")
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(
    recipe: Recipe, plugins: Plugins, run: Path, resume: bool = False, processes: Processes = ALONE
) -> Path:
    """Train what a recipe describes.

    Args:
        recipe: resolved.
        plugins: those that the recipe was resolved with; they are named in the record.
        run: the run directory.
        resume: go on from its newest checkpoint; equal to a run that was never interrupted, on a GPU if
            `training.deterministic` is set.
        processes: who trains; all of them call this, and rank 0 alone writes to the run directory.
    Returns: the weights directory.
    Raises: CheckpointError if there is nothing to resume, or another process trains in this directory;
        KeyboardInterrupt after saving, if asked to stop; X2KitError if a loss is not finite or too many records are
        broken; PluginError for an error in a plugin's code, with its traceback in the run directory.
    """
    if processes.is_rank_zero:
        with run_lock(run) as unheld, _traceback_in(run):
            return _train(recipe, plugins, run, run if resume else None, processes, unheld)
    # what others would write of their own is what rank 0 writes
    with TemporaryDirectory() as unread, _traceback_in(run):
        _train(recipe, plugins, Path(unread), run if resume else None, processes)
    return run / WEIGHTS


@contextmanager
def _traceback_in(run: Path) -> Iterator[None]:
    """Write the traceback of an error in a plugin's code into the run directory, and add its path to the message."""
    try:
        yield
    except PluginError as error:
        cause = error.__cause__
        if cause is None or isinstance(cause, X2KitError):
            raise
        file = run / TRACEBACK
        with storage_errors(file):
            run.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(traceback.format_exception(cause)), encoding="utf-8")
        raise PluginError(f"{error}\n  traceback: {file}") from cause


def _train(
    recipe: Recipe,
    plugins: Plugins,
    run: Path,
    resumed: Path | None,
    processes: Processes,
    warning: str | None = None,
) -> Path:
    config = recipe.training
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    state: dict[str, Any] = {}
    messages = [] if warning is None else [warning]
    if resumed is not None:
        state, told = resume_from(resumed, config.steps, processes)
        messages += told
    progress = StepProgress(config.steps, state.get("step", 0), quiet=not processes.is_rank_zero)
    for message in messages:  # said before anything is written, which may fail
        progress.say(message)
    phases = loss_phases(recipe.data, config.steps)
    built = partial(_expect_phases, progress, recipe.data, phases)
    parts, began = assemble(
        recipe, progress.say, processes, built if processes.is_rank_zero else lambda model: None
    )
    if state:
        restore(parts.model, parts.optimizer, state, processes)
        # The run outlives the tensors that it began from.
        state = {name: value for name, value in state.items() if name not in ("model", "optimizer", "shards")}
    facts = _facts(recipe, plugins, parts.batches, processes) | {
        "device": str(parts.device),
        "precision": choose_precision(config.precision, parts.device),
    }
    if resumed is not None:
        require_same_data(resumed, facts["data"])
    with stop_requests(
        passed_on=processes.several
    ) as stop:  # from here on there is a run, which a request has to leave in order
        trainer = _begun(recipe, plugins, run, parts, state, facts, stop, progress)
        if processes.is_rank_zero and (warning := remember(plugins_of(recipe.to_yaml()), run)):
            progress.say(warning)
        if began is not None:
            trainer.record.keep(INITIALISATION, began.to_json())
        for message in [*(began.lines() if began else []), *_about_device(config, parts.device)]:
            progress.say(message)
        try:
            with trainer.observers.watching(), worker_deaths():
                trainer.run_steps()
        finally:
            trainer.bad.close()
            trainer.record.close()
    weights = run / WEIGHTS
    whole = trainer.whole_model()
    if whole is not None:
        with atomic_folder(weights) as directory:
            save_weights(whole.eval(), trainer.record.recipe, directory)
    progress.say(f"weights: {weights}")
    return weights


def _expect_phases(progress: StepProgress, data: DataConfig, phases: Sequence[Phase], model: X2VLM) -> None:
    """Let the time left follow the losses that start or stop later."""
    if len(phases) == 1:
        return
    try:
        costs = phase_costs(model, data, phases)
    except Exception as error:  # noqa: BLE001 (an encoder of a plugin need not run on tensors without memory)
        progress.say(
            f"time left: taken as if all steps cost alike, though losses start or stop later; counting the operations "
            f"failed: {type(error).__name__}: {' '.join(str(error).split())}"
        )
        return
    progress.expect([(phase.stop, cost) for phase, cost in zip(phases, costs, strict=True)])


def _begun(
    recipe: Recipe,
    plugins: Plugins,
    run: Path,
    parts: Parts,
    state: Mapping[str, Any],
    facts: dict[str, Any],
    stop: list[int],
    progress: StepProgress,
) -> Trainer:
    """What makes the steps that are left, with the counts of the state that it goes on from."""
    done = state.get("step", 0)
    record = RunRecord(run, recipe.to_yaml(), facts, done)
    bad = BadRecordsOfRun(run, done, state.get("bad_records"))
    trainer = Trainer(recipe, parts, done, run, record, bad, plugins, stop, progress)
    if state.get("scaler") and trainer.scaler.is_enabled():
        trainer.scaler.load_state_dict(state["scaler"])
    if "non_finite" in state:  # earlier versions wrote none
        trainer.guard.restore(state["non_finite"])
    return trainer


def _about_device(config: TrainingConfig, device: torch.device) -> Iterator[str]:
    precision = choose_precision(config.precision, device)
    yield f"device: {describe_device(device, precision)}"
    if precision != choose_precision("auto", device) and precision == "bf16":
        yield (
            "training.precision bf16: this device has no instructions for it and takes many times as long as with "
            "fp32; auto chooses what is faster"
        )


def _facts(recipe: Recipe, plugins: Plugins, batches: StepBatches, processes: Processes) -> dict[str, Any]:
    return {
        "seed": recipe.training.seed,
        "plugins": [f"{s.name} ({s.distribution})" for s in plugins.states if s.status == "active"],
        # hashed by rank 0 alone: it reads the files of records whole
        "data": processes.from_rank_zero(batches.fingerprints() if processes.is_rank_zero else None),
    }


@dataclass
class Trainer(Stepper):
    """One run: the loop over its steps, and what is written on the way."""

    run: Path
    record: RunRecord
    bad: BadRecordsOfRun
    plugins: Plugins
    stop: list[int]
    """Filled from outside when the run is to stop."""
    progress: StepProgress

    def __post_init__(self) -> None:
        super().__post_init__()
        config, say = self.recipe.training, self.progress.say
        told = RunFacts(self.run, yaml.safe_load(self.recipe.to_yaml()), self.done, config.steps)
        leads = self.processes.is_rank_zero  # nobody else is watched
        self.observers = Callbacks(
            told, config.reporters if leads else {}, say, self.plugins if leads else None
        )
        self.watch = LossWatch(loss_phases(self.recipe.data, config.steps), self.done)
        self.writer = CheckpointWriter(self.run, config, say, self.processes, self.observers.checkpoint_saved)

    def run_steps(self) -> None:
        """All steps that are left. Saves and raises KeyboardInterrupt when asked to stop."""
        config = self.recipe.training
        began = waited = 0.0
        counted = 0
        with self.progress, self.writer, closing(self.batches.iterate(self.done)) as source:
            began = time.monotonic()
            while self.done < config.steps:
                fetched = time.monotonic()
                batch = next(source)
                waited += time.monotonic() - fetched
                counted += sum(len(ids) for ids in batch.records.values())
                self.bad.add(batch, self.recipe.data.max_bad_share)
                values = self.step(batch)
                self.writer.check()
                self.done += 1
                self.progress.advance(self.done)
                # Looked at once: a request that comes while saving waits for the next step.
                asked = self.processes.any(bool(self.stop))
                last = self.done == config.steps or asked
                log, keep = (
                    last or self.done % config.log_every == 0,
                    last or self.done % config.checkpoint_every == 0,
                )
                if log or keep:
                    self._look_for_non_finite()
                    numbers = self.processes.mean(values) | self.measures.read(self.processes)
                if log:
                    took = time.monotonic() - began
                    rates = {"samples_per_second": counted / took, "data_wait_share": waited / took}
                    self._log(numbers | region_images(batch) | {"seconds": took} | rates)
                    began, waited, counted = time.monotonic(), 0.0, 0
                else:
                    self.observers.step_done(self.done, None)
                if keep:
                    self.save(wait=last)
                if asked and self.done < config.steps:
                    raise KeyboardInterrupt(
                        f"stopped after step {self.done}, saved; go on with: x2kit train --resume --run-dir {self.run}"
                    )
        if summary := self.bad.summary():
            self.progress.say(summary)

    def _look_for_non_finite(self) -> None:
        """Say which updates were left out; raise X2KitError if the run is to end after the last of them."""
        found = self.guard.read()
        skipped = [(one.step, self.processes.mean(one.values)) for one in found.skipped]
        if found.ends:
            step, values = skipped[-1]
            model = self._whole(self.model.state_dict())
            message = ""
            if self.processes.is_rank_zero:
                batch = self.batches.batch(step) if not self.processes.several else self._whole_batch(step)
                scale = values.get("loss_scale", 1.0)
                saved = SavedStep(step, batch, nonfinite_names(values), model, self.record.recipe, scale)
                message = save_and_describe(self.run, saved, self.recipe.training, found.in_a_row)
            raise X2KitError(self.processes.from_rank_zero(message))  # the others wait until it is saved
        for step, values in skipped:
            self.progress.say(
                f"step {step + 1}: update left out; not finite: {', '.join(nonfinite_names(values))}"
            )

    def _whole_batch(self, step: int) -> Batch:
        """What all processes have of a step, as one process alone would make it."""
        config = self.recipe.training
        spec = self.model.image_spec
        return StepBatches(self.recipe.data, self.model.tokenizer, spec, config.seed, config.steps).batch(
            step
        )

    def _log(self, values: dict[str, float]) -> None:
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        if self.recipe.training.non_finite == "skip" or self.scaler.is_enabled():
            values["skipped"] = self.guard.skipped
        values["bad_records"] = self.bad.total
        self.record.write(self.done, {"time": time.time(), **values})
        self.observers.step_done(self.done, values)
        for message in self.watch.messages(self.done, values):
            self.progress.say(message)
        shown = {"loss": "loss", "gradient_norm": "gradient", "samples_per_second": "samples/s"}
        self.progress.show(
            self.done, {short: values[name] for name, short in shown.items() if name in values}
        )

    def _whole(self, state: dict[str, Any]) -> dict[str, Any]:
        """Gather a state's shards on the CPU of rank 0; what is not sharded stays where it is."""
        if self.distributed is None or not self.distributed.shards:
            return state
        found: dict[str, Any] = gathered(state, self.processes.is_rank_zero)
        return found

    def whole_model(self) -> X2VLM | None:
        """Return the model with all its weights at rank 0, None elsewhere; every process calls this."""
        weights = self._whole(self.model.state_dict())
        if not self.processes.is_rank_zero:
            return None
        if self.distributed is None or not self.distributed.shards:
            return self.model
        with without_initialisation():
            whole, _ = build_started(self.recipe.model, training_texts(self.recipe.data))
        whole.load_state_dict(weights)
        return whole

    def save(self, wait: bool) -> None:
        """A checkpoint of the steps done, and `wait` until it is on the disk even with `training.async_saving`."""
        sharded = self.distributed is not None and self.distributed.shards
        if sharded and self.recipe.training.sharded_checkpoints:
            self._save_shards()
            return
        model, optimizer = self._whole(self.model.state_dict()), self._whole(self.optimizer.state_dict())
        if not self.processes.is_rank_zero:
            return
        self._sync()
        state = {**self._state(), "model": model, "optimizer": optimizer}
        self.writer.save(self.done, state, self.record.newest)
        if wait:
            self.writer.wait()

    def _save_shards(self) -> None:
        """Nothing is gathered: every process writes what it has."""
        self._sync()
        optimizer = self.optimizer.state_dict()
        tensors = {**model_tensors(self.model), **optimizer_tensors(optimizer)}
        state = {**self._state(), "optimizer": without_tensors(optimizer)}
        self.writer.save_shards(self.done, state, tensors, self.record.newest)

    def _sync(self) -> None:
        self.record.sync()
        self.bad.sync()

    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds beside model and optimiser."""
        return {
            "step": self.done,
            "bad_records": self.bad.state(),
            "non_finite": self.guard.state(),
            "scaler": self.scaler.state_dict(),
        }

"""Train a recipe: the loop over steps, with logs, checkpoints and requests to stop. Imports torch."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml
from torch import Tensor

from x2kit.data.config import loss_phases
from x2kit.data.pipeline.batch import Batch
from x2kit.data.pipeline.order import ALL
from x2kit.data.pipeline.workers import worker_deaths
from x2kit.distributed.processes import ALONE, Processes
from x2kit.errors import X2KitError
from x2kit.io.atomic import atomic_folder
from x2kit.io.run_directory import INITIALISATION, SELECTION, WEIGHTS, run_lock
from x2kit.model import X2VLM, save_weights
from x2kit.model.device import choose_precision, describe_device, has_bf16
from x2kit.model.lora import merge_lora
from x2kit.model.saved_recipe import plugins_of
from x2kit.plugin.loading.manager import Plugins
from x2kit.plugin.loading.trust import remember
from x2kit.plugin.training import RunFacts
from x2kit.training.checkpoint.named_tensors import (
    averages_by_name,
    model_tensors,
    optimizer_tensors,
    without_tensors,
)
from x2kit.training.checkpoint.resume import (
    data_facts,
    restore,
    restore_averages,
    restore_model_from,
    resume_from,
)
from x2kit.training.checkpoint.writer import CheckpointWriter
from x2kit.training.config import TrainingConfig
from x2kit.training.feature_cache import with_cached_features
from x2kit.training.interruption import plugin_traceback, stop_requests
from x2kit.training.logging.bad_records import BadRecordsOfRun
from x2kit.training.logging.callbacks import Callbacks
from x2kit.training.logging.progress import StepProgress, expect_phases
from x2kit.training.logging.run_record import RunRecord, hardware, recorded_facts
from x2kit.training.logging.watch import LossWatch
from x2kit.training.nonfinite.guard import nonfinite_names
from x2kit.training.nonfinite.saved_step import SavedStep, save_and_describe
from x2kit.training.parallel.distribute import gathered
from x2kit.training.step.metrics import region_images
from x2kit.training.stepper import (
    Parts,
    Recipe,
    Stepper,
    assemble,
    build_empty,
    with_one_precision,
)
from x2kit.training.validation import (
    Selection,
    Validator,
    best_checkpoint,
    evaluation_mode,
    missing_metric,
    names_to_log,
    selection_of,
)


def train(
    recipe: Recipe,
    plugins: Plugins,
    run: Path,
    resume: bool = False,
    processes: Processes = ALONE,
    validator: Validator | None = None,
) -> Path:
    """Train the model of a recipe.

    Args:
        recipe: resolved.
        plugins: those that the recipe was resolved with; the run directory records them.
        run: the run directory.
        resume: start from its newest checkpoint; the result equals that of an uninterrupted run, on a GPU if
            `training.deterministic` is set.
        processes: ranks of the run; all of them call this, and rank 0 alone writes to the run directory.
        validator: measures the model during training, needed with `evaluation.every`: `x2kit.evaluation.Validator`.
    Returns: the weights directory: those of the best validation if `evaluation.select` is set, else the last ones.
    Raises: CheckpointError if there is nothing to resume, or another process trains in this directory;
        KeyboardInterrupt after a requested stop, once the run is saved; X2KitError if a loss is not finite or too many
        records are broken; PluginError for an error in a plugin's code, with its traceback in the run directory.
    """
    if validator is None and recipe.evaluation is not None and recipe.evaluation.every is not None:
        raise X2KitError(
            "evaluation.every: train needs a validator, x2kit.evaluation.Validator(recipe, processes)"
        )
    if processes.is_rank_zero:
        with run_lock(run) as warning, plugin_traceback(run):
            return _train(recipe, plugins, run, run if resume else None, processes, validator, warning)
    # Other ranks would write the same files as rank 0.
    with TemporaryDirectory() as discarded, plugin_traceback(run):
        _train(recipe, plugins, Path(discarded), run if resume else None, processes, validator)
    return run / WEIGHTS


def _train(
    recipe: Recipe,
    plugins: Plugins,
    run: Path,
    resumed: Path | None,
    processes: Processes,
    validator: Validator | None,
    warning: str | None = None,
) -> Path:
    if recipe.training.threads is not None:
        torch.set_num_threads(recipe.training.threads)
    recipe = with_one_precision(recipe, processes)
    config = recipe.training
    state: dict[str, Any] = {}
    messages = [] if warning is None else [warning]
    if resumed is not None:
        state, resume_messages = resume_from(resumed, config.steps, processes)
        messages += resume_messages
    progress = StepProgress(config.steps, state.get("step", 0), quiet=not processes.is_rank_zero)
    for message in messages:  # before the first write, which may fail
        progress.say(message)
    phases = loss_phases(recipe.data, config.steps)
    on_model = partial(expect_phases, progress, recipe.data, phases)
    parts, initialisation = assemble(
        recipe, progress.say, processes, on_model if processes.is_rank_zero else lambda model: None
    )
    if state:
        restore(parts.model, parts.optimizer, state, processes)
        # Free the tensors of the checkpoint.
        state = {name: value for name, value in state.items() if name not in ("model", "optimizer")}
    facts = recorded_facts(recipe, plugins, data_facts(parts.batches, processes, resumed)) | {
        **hardware(parts.device, processes.count),
        "precision": choose_precision(config.precision, parts.device),
    }
    parts = with_cached_features(recipe, parts, progress.say)
    with stop_requests(passed_on=processes.several) as stop:  # from here on, a stop saves the run
        trainer = _build_trainer(recipe, plugins, run, parts, state, facts, stop, progress, validator)
        del state  # its averages
        if processes.is_rank_zero and (warning := remember(plugins_of(recipe.to_yaml()), run)):
            progress.say(warning)
        if initialisation is not None:
            trainer.record.keep(INITIALISATION, initialisation.to_json())
            for message in initialisation.lines():
                progress.say(message)
        for message in _device_messages(config, parts.device):
            progress.say(message)
        try:
            with trainer.callbacks.watching(), worker_deaths(processes):
                trainer.run_steps()
        finally:
            trainer.bad.close()
            trainer.record.close()
    with trainer.averages.in_model():
        whole = trainer.whole_model()
        if whole is not None:
            _export(trainer, whole.eval())
    progress.say(f"weights: {run / WEIGHTS}")
    return run / WEIGHTS


def _export(trainer: Trainer, model: X2VLM) -> None:
    """Write the weights directory, from the best checkpoint if a validation metric selects one."""
    best = None if trainer.selection is None else best_checkpoint(trainer.run, trainer.selection)
    if best is not None:
        restore_model_from(best.checkpoint, model, trainer.averages.used)
        trainer.progress.say(best.describe())
    if trainer.recipe.training.lora_at_save == "merged":
        merge_lora(model)
    with atomic_folder(trainer.run / WEIGHTS) as directory:
        save_weights(model, trainer.record.recipe, directory)
        if best is not None:
            (directory / SELECTION).write_text(json.dumps(best.facts, indent=2) + "\n", encoding="utf-8")


def _build_trainer(
    recipe: Recipe,
    plugins: Plugins,
    run: Path,
    parts: Parts,
    state: Mapping[str, Any],
    facts: dict[str, Any],
    stop: list[int],
    progress: StepProgress,
    validator: Validator | None,
) -> Trainer:
    """Build the trainer, restoring counters from a checkpoint."""
    done = state.get("step", 0)
    record = RunRecord(run, recipe.to_yaml(), facts, done)
    bad = BadRecordsOfRun(run, done, state.get("bad_records"))
    trainer = Trainer(recipe, parts, done, run, record, bad, plugins, stop, progress, validator)
    if state.get("scaler") and trainer.scaler.is_enabled():
        trainer.scaler.load_state_dict(state["scaler"])
    restore_averages(trainer.averages.kept, state, parts.processes)
    if "non_finite" in state:  # missing in checkpoints of earlier versions
        trainer.guard.restore(state["non_finite"])
    return trainer


def _device_messages(config: TrainingConfig, device: torch.device) -> Iterator[str]:
    precision = choose_precision(config.precision, device)
    yield f"device: {describe_device(device, precision)}"
    if precision == "bf16" and not has_bf16(device):
        yield (
            "training.precision bf16: this device has no bf16 instructions and is many times slower than with fp32; "
            "auto chooses the faster one"
        )


@dataclass
class Trainer(Stepper):
    """Run the training loop, and write its logs and checkpoints.

    Attributes:
        run: the run directory.
        record: writer of metrics and facts.
        bad: counts of broken records.
        plugins: of the recipe.
        stop: from `stop_requests`; the run stops after a step at which it is not empty.
        progress: progress bar and messages.
        validator: measures the model during training; None for no validation.
    """

    run: Path
    record: RunRecord
    bad: BadRecordsOfRun
    plugins: Plugins
    stop: list[int]
    progress: StepProgress
    validator: Validator | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        config, say = self.recipe.training, self.progress.say
        facts = RunFacts(self.run, yaml.safe_load(self.recipe.to_yaml()), self.done, config.steps)
        reporters, plugins = (config.reporters, self.plugins) if self.processes.is_rank_zero else ({}, None)
        self.callbacks = Callbacks(facts, reporters, say, plugins)
        self.watch = LossWatch(loss_phases(self.recipe.data, config.steps), self.done)
        found = selection_of(self.validator, self.run) if self.processes.is_rank_zero else None
        self.selection: Selection | None = self.processes.from_rank_zero(found)
        selected_by = None if self.selection is None else (self.selection.name, self.selection.best_is)
        saved = self.callbacks.checkpoint_saved
        self.writer = CheckpointWriter(self.run, config, say, self.processes, saved, selected_by, self.device)

    def run_steps(self) -> None:
        """Make the remaining steps, until the last one or an early stop.

        Raises: KeyboardInterrupt after saving, if a stop was requested.
        """
        if self.validator is not None:
            self.validator.check(self.model)
        with self.progress, self.writer, closing(self.feed()) as source:
            self._restart_clock()
            while not self._finished():
                fetch_start = time.monotonic()
                batch, on_device = next(source)
                self._data_wait += time.monotonic() - fetch_start
                self._samples += sum(map(len, batch.records.values()))
                self.bad.add(batch, self.recipe.data.max_bad_share)
                # Asked once a step, beside it: with several ranks a request during a step counts after the next.
                stop = self.processes.begin_any(lambda: bool(self.stop))
                values = self.step(on_device)
                self.writer.check()
                self.done += 1
                self.progress.advance(self.done)
                stopped = stop()
                self._after_step(values, region_images(batch), stopped)
                if stopped and not self._finished():
                    raise KeyboardInterrupt(
                        f"stopped after step {self.done}, saved; resume with: x2kit train --resume --run-dir {self.run}"
                    )
        if self.selection is not None and self.selection.stops():
            self.progress.say(self.selection.describe_stop(self.done))
        if summary := self.bad.summary():
            self.progress.say(summary)

    def _finished(self) -> bool:
        return self.done >= self.recipe.training.steps or (
            self.selection is not None and self.selection.stops()
        )

    def _restart_clock(self) -> None:
        self._start, self._data_wait, self._samples = time.monotonic(), 0.0, 0

    def _after_step(
        self, values: Mapping[str, Tensor | float], counts: Mapping[str, float], stopped: bool
    ) -> None:
        """Validate, log and save where it is due."""
        config = self.recipe.training
        last = self.done == config.steps or stopped
        every = None if self.validator is None else self.validator.every
        validate = every is not None and (self.done % every == 0 or self.done == config.steps)
        log = last or validate or self.done % config.log_every == 0
        save = last or (validate and self.selection is not None) or self.done % config.checkpoint_every == 0
        if log or save:
            self._check_finite()
            numbers = self.processes.mean(values) | self.metrics.read(self.processes)
        if log:
            seconds = time.monotonic() - self._start
            rates = {
                "samples_per_second": self._samples / seconds,
                "data_wait_share": self._data_wait / seconds,
            }
            measured = self._validate() if validate else {}
            self._log(numbers | dict(counts) | {"seconds": seconds} | rates | measured)
            self._restart_clock()
        else:
            self.callbacks.step_done(self.done, None)
        if save:
            self.save(wait=last or self._finished())

    def _validate(self) -> dict[str, float]:
        """Measure the model on the validation records; collective.

        Raises: X2KitError, after saving, if the results lack the metric that selects.
        """
        assert self.validator is not None
        began = time.monotonic()
        with self.averages.in_model():
            model = self._model_to_measure()
            with evaluation_mode(model):
                numbers = self.validator.measure(model, self.progress.show_stage)
        missing = missing_metric(numbers, self.validator.select)
        if missing is not None:
            self.save(wait=True)
            resume = f"x2kit train --resume --run-dir {self.run} --evaluation.select TASK.METRIC"
            raise X2KitError(f"{missing}\n  the run is saved; resume it with: {resume}")
        if self.selection is not None:
            self.selection.values[self.done] = numbers[self.selection.metric]
            self.progress.say(self.selection.describe(self.done))
        split = self.validator.split
        logged = {f"{split}.{name}": numbers[name] for name in names_to_log(numbers, self.validator.select)}
        return {**logged, "validation_seconds": time.monotonic() - began}

    def _check_finite(self) -> None:
        """Report skipped updates. Raises X2KitError if the run ends after the last of them."""
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
            raise X2KitError(self.processes.from_rank_zero(message))  # other ranks wait until it is saved
        for step, values in skipped:
            self.progress.say(
                f"step {step + 1}: update skipped; not finite: {', '.join(nonfinite_names(values))}"
            )

    def _whole_batch(self, step: int) -> Batch:
        """Build the batch of all ranks, as a run of one rank does."""
        return replace(self.batches, share=ALL, ranks=None).batch(step)

    def _log(self, values: dict[str, float]) -> None:
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        if self.recipe.training.non_finite == "skip" or self.scaler.is_enabled():
            values["skipped"] = self.guard.skipped
        values["bad_records"] = self.bad.total
        self.record.write(self.done, {"time": time.time(), **values})
        self.callbacks.step_done(self.done, values)
        for message in self.watch.messages(self.done, values):
            self.progress.say(message)
        shown = {"loss": "loss", "gradient_norm": "gradient", "samples_per_second": "samples/s"}
        self.progress.show(
            self.done, {short: values[name] for name, short in shown.items() if name in values}
        )

    def _whole(self, state: dict[str, Any]) -> dict[str, Any]:
        """Gather a state's shards on the CPU of rank 0; an unsharded state is returned unchanged."""
        if not self._shards:
            return state
        whole: dict[str, Any] = gathered(state, self.processes.is_rank_zero)
        return whole

    @property
    def _shards(self) -> bool:
        return self.distributed is not None and self.distributed.shards

    def whole_model(self) -> X2VLM | None:
        """Return the model with all its weights on rank 0, None elsewhere; collective."""
        if not self._shards:
            return self.model if self.processes.is_rank_zero else None
        weights = gathered(self.model.state_dict(), self.processes.is_rank_zero)
        return self._unsharded(weights) if self.processes.is_rank_zero else None

    def _model_to_measure(self) -> X2VLM:
        """Return the model with all its weights on the device of every rank; collective."""
        if not self._shards:
            return self.model
        return self._unsharded(gathered(self.model.state_dict(), keep=True)).to(self.device)

    def _unsharded(self, weights: dict[str, Any]) -> X2VLM:
        whole, _ = build_empty(self.recipe, self.parts.source)
        whole.load_state_dict(weights)
        return whole

    def save(self, wait: bool) -> None:
        """Save a checkpoint, and `wait` for the disk even with `training.async_saving`."""
        if self._shards and self.recipe.training.sharded_checkpoints:
            self._sync()
            optimizer_state = self.optimizer.state_dict()
            tensors = {**model_tensors(self.model), **optimizer_tensors(optimizer_state)}
            tensors |= averages_by_name(self.averages.measured())
            state = {**self._state(), "optimizer": without_tensors(optimizer_state)}
            self.writer.save_shards(self.done, state, tensors, self.record.newest)
            return
        model, optimizer = self._whole(self.model.state_dict()), self._whole(self.optimizer.state_dict())
        average = self._whole(self.averages.measured())
        if not self.processes.is_rank_zero:
            return
        self._sync()
        state = {**self._state(), "model": model, "optimizer": optimizer, "average": average}
        self.writer.save(self.done, state, self.record.newest)
        if wait:
            self.writer.wait()

    def _sync(self) -> None:
        self.record.sync()
        self.bad.sync()

    def _state(self) -> dict[str, Any]:
        """Return the state of a checkpoint apart from model and optimiser."""
        return {
            "step": self.done,
            "bad_records": self.bad.state(),
            "non_finite": self.guard.state(),
            "scaler": self.scaler.state_dict(),
        }

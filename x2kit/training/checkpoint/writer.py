"""Which checkpoints of a run stay. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from x2kit.distributed.processes import ALONE, Processes
from x2kit.io.atomic import delete_folder
from x2kit.training.checkpoint.checkpoints import checkpoints, logged, save_checkpoint, save_sharded, step_of
from x2kit.training.config import TrainingConfig


def superseded(metrics: Mapping[int, Mapping[str, float]], now: int, config: TrainingConfig) -> list[int]:
    """The checkpoints to remove after one was saved.

    The newest `keep_last` stay, every one at a multiple of `keep_every`, and the best by `keep_best`. Those of later
    steps than `now` go: the run went back behind them, because they were damaged, and is about to make them again.

    Args:
        metrics: of every checkpoint, by its step, what was logged last when it was saved.
        now: the step that was just saved.
    """
    past = sorted(step for step in metrics if step <= now)
    stay = set(past[-config.keep_last :])
    if config.keep_every is not None:
        stay |= {step for step in past if step % config.keep_every == 0}
    stay |= best({step: metrics[step] for step in past}, config)
    return sorted(set(metrics) - stay)


def best(metrics: Mapping[int, Mapping[str, float]], config: TrainingConfig) -> set[int]:
    """The step of the best checkpoint by `keep_best`, the earliest of equals; none where nothing is compared."""
    name = config.keep_best
    if name is None:
        return set()
    sign = 1 if config.best_is == "lowest" else -1
    ranked = sorted((sign * values[name], step) for step, values in metrics.items() if name in values)
    return {step for _, step in ranked[:1]}


Say = Callable[[str], None]


class CheckpointWriter:
    """Use as a context manager: leaving it waits for what is still being written.

    With `training.async_saving` the state is copied to the memory of the CPU and written by a thread; the training
    goes on meanwhile. One checkpoint is written at a time. What is written is the state as it was, so results do not
    change.

    Args:
        run: the run directory.
        config: what is kept, and how it is saved.
        say: told what people should know.
        processes: those of the run; rank 0 alone calls `save`, and all of them `save_shards`.
        saved: told at rank 0 of every checkpoint that is whole, in the thread that trains: its steps and directory.
    """

    def __init__(
        self,
        run: Path,
        config: TrainingConfig,
        say: Say,
        processes: Processes = ALONE,
        saved: Callable[[int, Path], None] = lambda step, checkpoint: None,
    ) -> None:
        self._saved, self._beside = saved, 0
        self._run, self._config, self._say, self._processes = run, config, say, processes
        self._thread: Thread | None = None
        self._failed: BaseException | None = None
        self._unknown_said = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except Exception as failed:
            if error is None:
                raise
            self._say(str(failed))  # the run ends for another reason, which must not be hidden by this one

    def save(self, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """A checkpoint after so many steps. Raises: StorageError, of this one or of one written beside the training."""
        self.wait()
        self._look_for_metric(metrics)
        if not self._config.async_saving:
            self._write(step, state, metrics)
            self._tell_of(step)
            return
        self._beside = step
        self._thread = Thread(
            target=self._write_beside,
            args=(step, on_cpu(state), dict(metrics)),
            name="checkpoint",
            daemon=True,
        )
        self._thread.start()

    def save_shards(
        self,
        step: int,
        state: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        metrics: Mapping[str, float],
    ) -> None:
        """A checkpoint after so many steps, of which every process writes its shards. Raises: StorageError in all."""
        self._look_for_metric(metrics)
        save_sharded(self._run, step, state, tensors, metrics, self._processes)
        if self._processes.is_rank_zero:
            self._remove_superseded(step)
            self._tell_of(step)

    def check(self) -> None:
        """Raise what went wrong in the thread; does not wait."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Return when nothing is being written any more. Raises what went wrong in the thread."""
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed
        self._tell_of(self._beside)

    def _tell_of(self, step: int) -> None:
        for checkpoint in checkpoints(self._run):
            if step_of(checkpoint) == step:
                self._saved(step, checkpoint)

    def _write_beside(self, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        try:
            self._write(step, state, metrics)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that trains
            self._failed = error

    def _write(self, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        save_checkpoint(self._run, step, state, metrics)
        self._remove_superseded(step)

    def _remove_superseded(self, step: int) -> None:
        known = {step_of(path): path for path in checkpoints(self._run)}
        found = {number: logged(path) for number, path in known.items()}
        for number in superseded(found, step, self._config):
            delete_folder(known[number])

    def _look_for_metric(self, metrics: Mapping[str, float]) -> None:
        name = self._config.keep_best
        if name is None or name in metrics or self._unknown_said:
            return
        self._unknown_said = True
        self._say(
            f"training.keep_best: nothing called {name!r} is logged so far, so this checkpoint is not compared; "
            f"logged are {', '.join(sorted(metrics)) or 'no values yet'}"
        )


def on_cpu(value: Any) -> Any:
    """A copy of a state in the memory of the CPU, which later steps do not change.

    Tensors that share memory share it in the copy as well, so tied weights take their room once.
    """
    return _copy(value, {})


def _copy(value: Any, known: dict[tuple[Any, ...], Tensor]) -> Any:
    if isinstance(value, Tensor):
        place = (value.untyped_storage()._cdata, value.storage_offset(), value.shape, value.stride())
        if place not in known:
            known[place] = torch.empty_like(value, device="cpu", requires_grad=False).copy_(value.detach())
        return known[place]
    if isinstance(value, Mapping):
        return {name: _copy(inner, known) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        copied = [_copy(inner, known) for inner in value]
        return copied if isinstance(value, list) else tuple(copied)
    return value

"""Write checkpoints, in a thread if wanted, and delete superseded ones. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from x2kit.distributed.processes import ALONE, Processes
from x2kit.io.atomic import delete_folder
from x2kit.training.checkpoint.checkpoints import (
    BestIs,
    best_step,
    checkpoints,
    logged_metrics,
    save_checkpoint,
    save_sharded,
    step_of,
    tensor_bytes,
)
from x2kit.training.config import TrainingConfig

CPU = torch.device("cpu")
MEMORY, GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def free_memory(memory: Path = MEMORY, group: Path = GROUP) -> int:
    """Return the bytes of main memory that this process may still take; 0 where the system does not tell.

    Args:
        memory: of the machine, as Linux writes it.
        group: limits of the container (cgroup v2).
    """
    try:
        lines = memory.read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 0
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return free
    return free if limit == "max" else min(free, int(limit) - int(used))


def superseded(
    metrics: Mapping[int, Mapping[str, float]],
    now: int,
    config: TrainingConfig,
    selected_by: tuple[str, BestIs] | None = None,
) -> list[int]:
    """Return the checkpoints to delete after one was saved.

    Kept are the newest `keep_last`, every multiple of `keep_every`, and the best by `keep_best` and by validation.
    Checkpoints after step `now` are deleted: they were damaged, so the run resumed before them and will write them
    again.

    Args:
        metrics: values logged with each checkpoint, by step.
        now: the step just saved.
        config: of the run.
        selected_by: value that selects the weights of the run, and which of its values is best.
    """
    past = sorted(step for step in metrics if step <= now)
    kept = set(past[-config.keep_last :])
    if config.keep_every is not None:
        kept |= {step for step in past if step % config.keep_every == 0}
    wanted = [selected_by] if selected_by else []
    if config.keep_best is not None:
        wanted.append((config.keep_best, config.best_is))
    for name, best_is in wanted:
        best = best_step({step: metrics[step][name] for step in past if name in metrics[step]}, best_is)
        kept |= set() if best is None else {best}
    return sorted(set(metrics) - kept)


class CheckpointWriter:
    """Save checkpoints; a context manager that waits for pending writes on exit.

    With `training.async_saving` the state is copied to the CPU and written by a thread while training continues, one
    checkpoint at a time. The copy is of the saved step, so results do not change. By default that is done where it
    costs nothing: where the CPU only waits for the device that trains, and has the memory.

    Args:
        run: the run directory.
        config: retention and saving mode.
        say: receives messages for the user.
        processes: the ranks of the run; only rank 0 calls `save`, every rank calls `save_shards`.
        saved: called at rank 0 with step and directory of each complete checkpoint, in the training thread.
        selected_by: as for `superseded`.
        device: that trains.
    """

    def __init__(
        self,
        run: Path,
        config: TrainingConfig,
        say: Callable[[str], None],
        processes: Processes = ALONE,
        saved: Callable[[int, Path], None] = lambda step, checkpoint: None,
        selected_by: tuple[str, BestIs] | None = None,
        device: torch.device = CPU,
    ) -> None:
        self._device = device
        self._run, self._config, self._say, self._processes = run, config, say, processes
        self._saved, self._selected_by = saved, selected_by
        self._thread: Thread | None = None
        self._thread_step = 0
        self._failed: BaseException | None = None
        self._warned = False

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
            self._say(str(failed))  # must not replace the error that ends the run

    def save(self, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Save the full state. Raises StorageError of this checkpoint or of a pending one."""
        self.wait()
        self._warn_of_unknown_metric(metrics)
        if not self._in_background(state):
            self._write(step, state, metrics)
            self._notify(step)
            return
        self._thread_step = step
        self._thread = Thread(
            target=self._write_in_thread,
            args=(step, copy_to_cpu(state), dict(metrics)),
            name="checkpoint",
            daemon=True,
        )
        self._thread.start()

    def _in_background(self, state: Mapping[str, Any]) -> bool:
        wanted = self._config.async_saving
        if wanted is not None or self._device.type == "cpu":
            return bool(wanted)
        return tensor_bytes(state) <= free_memory() / 2

    def save_shards(
        self,
        step: int,
        state: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        metrics: Mapping[str, float],
    ) -> None:
        """Save the state with one file of shards per rank. Raises StorageError on all ranks."""
        self._warn_of_unknown_metric(metrics)
        save_sharded(self._run, step, state, tensors, metrics, self._processes)
        if self._processes.is_rank_zero:
            self._delete_superseded(step)
            self._notify(step)

    def check(self) -> None:
        """Raise the error of a finished thread without waiting."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Wait for a pending write and raise its error."""
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed
        self._notify(self._thread_step)

    def _notify(self, step: int) -> None:
        for checkpoint in checkpoints(self._run):
            if step_of(checkpoint) == step:
                self._saved(step, checkpoint)

    def _write_in_thread(self, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        try:
            self._write(step, state, metrics)
        except BaseException as error:  # noqa: BLE001 - raised in the training thread
            self._failed = error

    def _write(self, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        save_checkpoint(self._run, step, state, metrics)
        self._delete_superseded(step)

    def _delete_superseded(self, step: int) -> None:
        paths = {step_of(path): path for path in checkpoints(self._run)}
        metrics = {number: logged_metrics(path) for number, path in paths.items()}
        for number in superseded(metrics, step, self._config, self._selected_by):
            delete_folder(paths[number])

    def _warn_of_unknown_metric(self, metrics: Mapping[str, float]) -> None:
        name = self._config.keep_best
        if name is None or name in metrics or self._warned:
            return
        self._warned = True
        self._say(
            f"training.keep_best: no value {name!r} is logged so far, so this checkpoint is not compared; logged: "
            f"{', '.join(sorted(metrics)) or 'nothing yet'}"
        )


def copy_to_cpu(state: Any) -> Any:
    """Copy all tensors of nested containers to the CPU; tensors that share memory share it in the copy."""
    copies: dict[tuple[Any, ...], Tensor] = {}

    def copy(tensor: Tensor) -> Tensor:
        memory = (tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride())
        if memory not in copies:
            copies[memory] = torch.empty_like(tensor, device="cpu", requires_grad=False).copy_(
                tensor.detach()
            )
        return copies[memory]

    return tree_map_only(Tensor, copy, state)

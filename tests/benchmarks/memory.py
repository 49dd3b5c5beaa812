"""Measure the peak memory of a function in a fresh process."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def peak_memory(work: Callable[..., object], *arguments: Any) -> int:
    """Return the largest resident memory in bytes of a fresh process that imports and runs `work`.

    Args:
        work: a function of a module.
        arguments: what pickle can carry.
    Raises: RuntimeError if the work failed; its traceback is on the error stream.
    """
    processes = multiprocessing.get_context("spawn")
    here, there = processes.Pipe(duplex=False)
    process = processes.Process(target=_tell, args=(there, work, arguments))
    process.start()
    there.close()
    try:
        peak: int = here.recv()
    except EOFError as error:
        raise RuntimeError(f"{work.__name__}{arguments} failed in its own process") from error
    finally:
        process.join()
    return peak


def _tell(result: Connection, work: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    work(*arguments)
    result.send(_peak())


def _peak() -> int:
    status = Path("/proc/self/status")
    if status.is_file():  # Linux hands the parent's ru_maxrss on to the child, but not this
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

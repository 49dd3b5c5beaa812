"""A function run in several processes that know each other, as training on several devices has them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import distributed

PATIENCE = timedelta(seconds=60)
"""How long a process waits for one that failed; only a broken run takes that long."""


def in_processes(count: int, directory: Path, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What the function gives in each process, by rank.

    Args:
        directory: empty; the processes find each other there.
        function: of a module, so that another process can import it.
    """
    call = pickle.dumps((function, arguments))  # plain pickle, for the pool would share tensors as open files
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        runs = [pool.submit(_run, rank, count, directory / "meeting", call) for rank in range(count)]
        return [pickle.loads(run.result()) for run in runs]


def _run(rank: int, count: int, meeting: Path, call: bytes) -> bytes:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=meeting.as_uri(), rank=rank, world_size=count, timeout=PATIENCE
    )
    try:
        function, arguments = pickle.loads(call)
        return pickle.dumps(function(*arguments))
    finally:
        distributed.destroy_process_group()

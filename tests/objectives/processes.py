"""Run a function on several ranks, each a process of its own, joined by gloo."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from tests.forked import FORKS

PATIENCE = timedelta(seconds=60)
"""Timeout of a collective; only reached if another rank failed."""


def in_processes(count: int, directory: Path, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what the function returns on each rank, in order of ranks.

    Args:
        directory: empty; for the rendezvous file.
        function: importable, defined at the top of a module.
    """
    call = pickle.dumps((function, arguments))  # plain pickle: the pool would share tensors as open files
    with ProcessPoolExecutor(count, mp_context=FORKS) as pool:
        runs = [pool.submit(_run, rank, count, directory / "rendezvous", call) for rank in range(count)]
        return [pickle.loads(run.result()) for run in runs]


def _run(rank: int, count: int, rendezvous: Path, call: bytes) -> bytes:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=rendezvous.as_uri(), rank=rank, world_size=count, timeout=PATIENCE
    )
    try:
        function, arguments = pickle.loads(call)
        return pickle.dumps(function(*arguments))
    finally:
        distributed.destroy_process_group()

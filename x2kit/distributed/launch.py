"""Start the ranks of a job on this machine, as torchrun does, and collect what they return. Imports torch when called.

    results = run_ranks(function, (argument,), count=2)     # one result per rank

Each rank is a new process whose environment is that of torchrun, so `started_processes` joins them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from uuid import uuid4

Result = TypeVar("Result")

LOGGERS = "torch.distributed.elastic"
"""torch's reports on the processes of a failed rank; the rank itself has said what failed."""


class RanksFailed(Exception):
    """A rank failed, and all others ended with it; the one that failed first has printed its message."""


def run_ranks(function: Callable[..., Result], arguments: tuple[Any, ...], count: int) -> list[Result]:
    """Call a function in new processes, one for each rank of this machine.

    Args:
        function: importable by name; it is called within a process that `started_processes` recognises as a rank.
        arguments: the same for all ranks; they and the results are pickled.
        count: of ranks, 1 or more.
    Returns: results in the order of ranks.
    Raises: RanksFailed if a rank ends with an error.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger(LOGGERS).setLevel(logging.CRITICAL)
    with TemporaryDirectory() as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=str(uuid4()),
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        try:
            results = elastic_launch(config, function)(*arguments)
        except ChildFailedError as error:
            raise RanksFailed from error
    return [results[rank] for rank in range(count)]

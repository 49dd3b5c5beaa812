"""Data workers of several processes exchange values, and name the rank that is gone."""

from __future__ import annotations

import pickle
import subprocess
import sys

from torch.distributed import TCPStore

from x2kit.distributed.worker_ranks import WorkerRanks

PATIENCE = 60.0
"""Timeout in seconds; a failed exchange takes about one, starting Python some."""

PROGRAM = """
import os, signal, sys
from x2kit.distributed.worker_ranks import RankGone, WorkerRanks

rank, port = map(int, sys.argv[1:])
ranks = WorkerRanks(rank, 3, "localhost", port, "exchange")
print(ranks.gather({"rank": rank, "rows": "x" * rank}))
if rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
try:
    ranks.gather("second")
except RankGone as error:
    print(error)
"""


def test_the_other_ranks_name_the_one_that_is_killed() -> None:
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    commands = [[sys.executable, "-c", PROGRAM, str(rank), str(store.port)] for rank in range(3)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    printed = [process.communicate(timeout=PATIENCE)[0].splitlines() for process in started]
    for rank in (0, 2):
        first, second = printed[rank]
        assert first == str([{"rank": other, "rows": "x" * other} for other in range(3)])
        assert second.startswith(f"rank 1 ended while the training process of rank {rank} waited")


def test_ranks_are_pickled_before_they_connect() -> None:
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    ranks: WorkerRanks = pickle.loads(pickle.dumps(WorkerRanks(0, 1, "localhost", store.port, "alone")))
    assert ranks.gather("value") == ["value"]

"""A question to all ranks is answered beside other work."""

from __future__ import annotations

from pathlib import Path

from torch import distributed

from tests.objectives.processes import in_processes
from x2kit.distributed.processes import ALONE, Processes


def answers() -> list[bool]:
    """Ask whether rank 1 has the flag, and whether any rank has it."""
    processes = Processes(distributed.get_rank(), 2, 0, distributed.new_group(backend="gloo"))
    asked = [
        processes.begin_any(lambda: processes.rank == 1),
        processes.begin_any(lambda: False),
    ]
    return [answer() for answer in asked]


def test_a_flag_of_one_rank_is_known_to_all(tmp_path: Path) -> None:
    assert in_processes(2, tmp_path, answers) == [[True, False], [True, False]]


def test_one_rank_reads_its_flag_at_the_end() -> None:
    flags: list[int] = []
    answer = ALONE.begin_any(lambda: bool(flags))
    flags.append(1)
    assert answer()

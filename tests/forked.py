"""Start programs in processes that are forked from a server which has imported torch and x2kit.

The processes are real: each has its own pid, session, signals, environment, working directory and output. Only the
imports are done, which take a fresh interpreter three seconds of a processor. What a fresh interpreter or torchrun
itself does is tested with `subprocess` and `tests.training.torchrun`.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATIENCE = 240
"""Seconds after which a program counts as hanging; none takes more than a tenth of it on an idle machine."""
ROOT = Path(__file__).parents[1]
FORKS = multiprocessing.get_context("forkserver")
# One server serves all tests of a process, so there is one list. Its modules are not those of tests/, which the server
# does not find if a test has changed the working directory.
FORKS.set_forkserver_preload(
    ["x2kit.training.trainer", "x2kit.cli.train", "x2kit.evaluation.harness", "x2kit.inference.loading"]
)


class Program:
    """`python -m MODULE ARGUMENTS`, running; its output goes to files.

    Args:
        arguments: of the command line.
        module: to run.
        cwd: working directory, the current one by default.
        environment: of the process, by default the current one.
        session: whether it leads a session, and with it a process group, of its own.
    """

    def __init__(
        self,
        *arguments: str | Path,
        module: str = "x2kit",
        cwd: Path | None = None,
        environment: dict[str, str] | None = None,
        session: bool = False,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.args = [module, *map(str, arguments)]
        where = (str(cwd or Path.cwd()), dict(os.environ) if environment is None else environment)
        self._process = FORKS.Process(target=_run, args=(self.args, self._folder.name, *where, session))
        self._process.start()

    @property
    def pid(self) -> int:
        """Number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit status, None while it runs; -N after signal N."""
        return self._process.exitcode

    def wait(self, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Wait for the end. Raises TimeoutExpired, with its output so far, after killing it."""
        self._process.join(timeout)
        status = self._process.exitcode
        if status is None:
            self._process.kill()
            self._process.join()
        out, err = (Path(self._folder.name, name).read_text() for name in ("out", "err"))
        self._folder.cleanup()
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout, out, err)
        return subprocess.CompletedProcess(self.args, status, out, err)


def run_ranks(
    count: int, *arguments: str | Path, module: str = "x2kit", cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run a program on several ranks to its end, joined by a store as under torchrun; its output is that of all.

    The exit status is that of the first rank which failed.
    """
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    common = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    started = [
        Program(
            *arguments,
            module=module,
            cwd=cwd,
            environment={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]
    deadline = time.monotonic() + PATIENCE
    ended = [program.wait(max(1.0, deadline - time.monotonic())) for program in started]
    status = next((each.returncode for each in ended if each.returncode), 0)
    out, err = ("".join(getattr(each, name) for each in ended) for name in ("stdout", "stderr"))
    return subprocess.CompletedProcess(ended[0].args, status, out, err)


def _run(command: list[str], folder: str, cwd: str, environment: dict[str, str], session: bool) -> None:
    """Become the program, in the forked process."""
    for name, number in (("out", 1), ("err", 2)):
        descriptor = os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    if session:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[:0] = [cwd, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    multiprocessing.set_start_method("fork", force=True)  # of workers, as in a fresh interpreter
    import torch

    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", torch.get_num_threads())))
    sys.argv = list(command)
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)

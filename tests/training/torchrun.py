"""x2kit in the processes that torchrun starts, as on a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 240
"""Seconds after which a run counts as hanging; none takes more than a tenth of it on an idle machine."""


def torchrun(
    count: int, *arguments: str | Path, module: str = "x2kit", cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """`torchrun --nproc-per-node COUNT -m MODULE ARGUMENTS`, to its end."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return subprocess.run(
        [*command, "-m", module, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

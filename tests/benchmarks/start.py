"""Measure the start-up time of the command line beyond Python's, and check that no model library is imported.

python -m tests.benchmarks.start
"""

from __future__ import annotations

import resource
import subprocess
import sys
from statistics import median

COMMANDS = (["--help"], ["plugins"], ["recipes", "validate", "quickstart/multilingual"])
HEAVY = ("torch", "torchvision", "timm", "transformers", "open_clip", "scipy", "tensorboard")
MAX_SECONDS, ROUNDS = 1.2, 8

_SUBCOMMAND = "import sys; from x2kit.cli import main; sys.exit(main({arguments!r}))"
_IMPORTED = """
import contextlib, io, sys
from x2kit.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main({arguments!r})
print(*(name for name in {heavy!r} if name in sys.modules))
"""


def imported(arguments: list[str]) -> list[str]:
    """List the model libraries that a command imports."""
    return _python(_IMPORTED.format(arguments=arguments, heavy=HEAVY)).split()


def main() -> None:
    """Check the imports, then time each command against an empty program."""
    for arguments in COMMANDS:
        shown = " ".join(arguments)
        assert not imported(arguments), f"x2kit {shown} imports {', '.join(imported(arguments))}"
        more = [_seconds(_SUBCOMMAND.format(arguments=arguments)) - _seconds("pass") for _ in range(ROUNDS)]
        print(
            f"x2kit {shown}: {median(more):.2f} s more than `python -c pass`, median of {ROUNDS}", flush=True
        )
        assert median(more) < MAX_SECONDS, f"more than {MAX_SECONDS} s"


def _seconds(code: str) -> float:
    """Return processor seconds, which other programs do not lengthen."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _python(code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()

"""`x2kit debug`: make the step again whose numbers went wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import jsonargparse

from x2kit.cli.run_directory import stored_recipe
from x2kit.errors import CheckpointError

if TYPE_CHECKING:
    from x2kit.training.nonfinite.replay import ReplayResult

HELP = "make the step again at which a run stopped for a number that is not finite"
EXAMPLES = """\
examples:
  x2kit debug runs/mine
  x2kit debug runs/mine --step 812 --device cpu

exit status: 1 if a loss or the gradient norm is not finite again, 0 if all are, 2 if there is no such step
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Run, step, device."""
    parser.add_argument("run", help="a run directory in which training left non-finite/")
    parser.add_argument("--step", type=int, metavar="N", help="which of the saved steps; the last by default")
    parser.add_argument("--device", type=str, metavar="NAME", help="instead of the recipe's training.device")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="PLUGIN", help="a plugin: file or module; repeatable"
    )


def run(options: jsonargparse.Namespace) -> int:
    """Find the step, make it again, say what is not finite and where."""
    directory = Path(options.run)
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: no such directory")
    folder = _folder(directory, options.step)
    recipe = stored_recipe(folder, plugins=options.plugin, checks="none").recipe
    from x2kit.training.nonfinite.replay import replay  # torch enters here

    replayed = replay(folder, recipe, options.device)
    print(f"{folder}: the batch of {folder / 'records.json'} with the parameters before its update")
    print("\n".join(_lines(replayed)))
    return 1 if replayed.broken else 0


def _folder(directory: Path, step: int | None) -> Path:
    from x2kit.training.nonfinite.saved_step import saved_steps

    saved = saved_steps(directory)
    if not saved:
        raise CheckpointError(
            f"{directory}: holds no saved step; a run that stops for a number that is not finite leaves one in "
            "non-finite/"
        )
    if step is not None and step not in saved:
        raise CheckpointError(
            f"{directory}: step {step} is not saved; saved are {', '.join(map(str, saved))}"
        )
    return saved[step if step is not None else max(saved)]


def _lines(replayed: ReplayResult) -> list[str]:
    width = max(map(len, replayed.values))
    lines = [f"  {name:<{width}}  {value:.6g}" for name, value in replayed.values.items()]
    lines.append(f"forward:  {replayed.forward or 'the output of every module is finite'}")
    lines.append(f"backward: {replayed.backward or 'the gradient of every module is finite'}")
    if replayed.broken:
        lines.append(f"reproduced: not finite: {', '.join(replayed.broken)}")
    else:
        lines.append(f"not reproduced: all is finite; in the run it was not: {', '.join(replayed.before)}")
    return lines

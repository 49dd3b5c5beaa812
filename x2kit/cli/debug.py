"""`x2kit debug`: replay a training step that produced NaN or Inf."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import jsonargparse

from x2kit.cli.parser import add_plugin_argument
from x2kit.cli.run_directory import stored_recipe
from x2kit.errors import CheckpointError

if TYPE_CHECKING:
    from x2kit.training.nonfinite.replay import ReplayResult

HELP = "replay a step that produced NaN or Inf and name the first module that did"
EXAMPLES = """\
examples:
  x2kit debug runs/mine
  x2kit debug runs/mine --step 812 --device cpu

exit status: 1 if NaN or Inf is reproduced, 0 if all values are finite, 2 if no such step is saved
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add run, step, device and plugins."""
    parser.add_argument("run", help="a run directory with saved steps in non-finite/")
    parser.add_argument("--step", type=int, metavar="N", help="saved step to replay; the last by default")
    parser.add_argument("--device", type=str, metavar="NAME", help="device to use instead of training.device")
    add_plugin_argument(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Replay the step and print the first modules with NaN or Inf."""
    directory = Path(options.run)
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: no such directory")
    folder = _folder(directory, options.step)
    recipe = stored_recipe(folder, plugins=options.plugin, checks="none").recipe
    from x2kit.training.nonfinite.replay import replay  # imports torch

    replayed = replay(folder, recipe, options.device)
    print(f"{folder}: batch of {folder / 'records.json'}, parameters before the update")
    print("\n".join(_lines(replayed)))
    return 1 if replayed.broken else 0


def _folder(directory: Path, step: int | None) -> Path:
    from x2kit.training.nonfinite.saved_step import saved_steps

    saved = saved_steps(directory)
    if not saved:
        raise CheckpointError(
            f"{directory}: no saved step; a run that stops at NaN or Inf saves one in non-finite/"
        )
    if step is not None and step not in saved:
        raise CheckpointError(
            f"{directory}: step {step} is not saved; saved steps: {', '.join(map(str, saved))}"
        )
    return saved[step if step is not None else max(saved)]


def _lines(replayed: ReplayResult) -> list[str]:
    width = max(map(len, replayed.values))
    lines = [f"  {name:<{width}}  {value:.6g}" for name, value in replayed.values.items()]
    lines.append(f"forward:  {replayed.forward or 'all module outputs are finite'}")
    lines.append(f"backward: {replayed.backward or 'all module gradients are finite'}")
    if replayed.broken:
        lines.append(f"reproduced: NaN or Inf in {', '.join(replayed.broken)}")
    else:
        lines.append(
            f"not reproduced: all values are finite; the run had NaN or Inf in {', '.join(replayed.before)}"
        )
    return lines

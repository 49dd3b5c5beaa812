"""`x2kit report`: a run as one HTML file."""

from __future__ import annotations

from pathlib import Path

import jsonargparse

from x2kit.cli.run_directory import stored_recipe

HELP = "write report.html of a run: curves, tables, pictures"
EXAMPLES = """\
examples:
  x2kit report runs/mine
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """The run."""
    parser.add_argument("run", help="a run directory that was trained and evaluated")
    parser.add_argument("--plugin", action="append", default=[], metavar="PLUGIN", help="one more plugin")


def run(options: jsonargparse.Namespace) -> int:
    """Write the report and say where it is."""
    directory = Path(options.run)
    resolved = stored_recipe(directory, plugins=options.plugin)
    from x2kit.evaluation.report import write_report  # torch enters here

    print(write_report(directory, resolved.recipe, resolved.plugins))
    return 0

"""`x2kit results`: compare the results of runs, with each other and with published numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse

from x2kit.cli.parser import add_plugin_argument
from x2kit.errors import X2KitError
from x2kit.recipe.catalogue import shipped
from x2kit.terminal import PlainConsole

if TYPE_CHECKING:
    from x2kit.evaluation.comparison import Measurement, Settings

HELP = "compare evaluated runs: intervals, paired tests, what differs, published numbers"
MOST_RESAMPLES = 1_000_000
EXAMPLES = """\
examples:
  x2kit results runs/mine                                   # intervals of one run
  x2kit results runs/seed1 runs/seed2 runs/ablation         # each against the first
  x2kit results runs/mine --against evaluate/retrieval-coco # published numbers of that recipe
  x2kit results runs/a runs/b --against runs/baseline       # each against the baseline
  x2kit results runs/a runs/b --metrics r5 reciprocal_rank --output build/comparison
  x2kit results runs/a runs/b --split validation --json

Runs are first evaluated: x2kit evaluate RUN. Items of runs that measured equal records are paired; others are shown
side by side with the reason. --output writes Markdown, CSV, JSON, drawings, and rankings as files of TREC.
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add runs, reference, metrics, output and settings of resampling."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="run directories, weights directories or result files"
    )
    parser.add_argument(
        "--against",
        type=str,
        metavar="PUBLISHED",
        help="a recipe, whose published numbers are set beside; or a run or result file, which becomes the baseline",
    )
    parser.add_argument(
        "--split", type=str, metavar="NAME", help="results of this split, RUN/evaluation-NAME.json"
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help="metrics of items to compare, such as r1 r5; the main one of each task by default",
    )
    parser.add_argument(
        "--output", type=str, metavar="DIR", help="write the comparison to files in a directory"
    )
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.add_argument("--samples", type=int, default=10_000, help="bootstrap resamples of an interval")
    parser.add_argument("--permutations", type=int, default=9_999, help="permutations of a test")
    parser.add_argument("--seed", type=int, default=0, help="seed of resamples and permutations")
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals")
    add_plugin_argument(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Compare, write the files and print tables or JSON."""
    from x2kit.evaluation.comparison import compare, write_comparison
    from x2kit.evaluation.comparison.measurements import label_runs
    from x2kit.evaluation.comparison.published import beside_published
    from x2kit.evaluation.comparison.writing import as_json, render

    settings = _settings(options)
    runs, expectations = list(map(Path, options.runs)), None
    if options.against is not None:
        if Path(options.against).is_dir() or Path(options.against).suffix == ".json":
            runs.insert(0, Path(options.against))
        else:
            expectations = _published(options.against, options.plugin)
    measurements = label_runs(runs, options.split)
    comparison = compare(measurements, settings)
    if expectations is None:
        expectations = _own(measurements)
    published = beside_published(measurements, expectations, settings)
    if not comparison.tables and not published:
        files = ", ".join(str(one.file) for one in measurements)
        raise X2KitError(
            f"{files}: no values of single items to compare; evaluate again with this version: x2kit evaluate RUN"
        )
    written = write_comparison(comparison, published, Path(options.output)) if options.output else []
    if options.json:
        print(json.dumps(as_json(comparison, published), ensure_ascii=False, indent=2))
        return 0
    PlainConsole().print(render(comparison, published))
    if written:
        print(f"\n{written[0]} and {len(written) - 1} more files")
    return 0


def _settings(options: jsonargparse.Namespace) -> Settings:
    from x2kit.evaluation.comparison import Settings

    for name in ("samples", "permutations"):
        if not 1 <= getattr(options, name) <= MOST_RESAMPLES:
            raise X2KitError(f"--{name}: expected 1 to {MOST_RESAMPLES:,}, found {getattr(options, name)}")
    if not 0 < options.confidence < 1:
        raise X2KitError(
            f"--confidence: expected a share between 0 and 1, such as 0.95, found {options.confidence}"
        )
    if options.seed < 0:
        raise X2KitError(f"--seed: expected 0 or more, found {options.seed}")
    return Settings(options.metrics, options.samples, options.permutations, options.seed, options.confidence)


def _published(name: str, plugins: Sequence[str]) -> Mapping[str, Any]:
    """Read the expectations of a recipe. Raises X2KitError for a recipe without any, naming those that have some."""
    from x2kit.recipe.reading import read_recipe

    known = [file.name for file in shipped()]
    if name not in known and not Path(name).is_file():
        raise X2KitError(
            f"--against {name}: is no run, no result file and no recipe; recipes: x2kit recipes list"
        )
    evaluation = read_recipe([name], extra_plugins=plugins, checks="none").recipe.evaluation
    if evaluation is None or not evaluation.expectations:
        raise X2KitError(f"--against {name}: the recipe has no published numbers (evaluation.expectations)")
    return {key: one.model_dump(mode="json") for key, one in evaluation.expectations.items()}


def _own(measurements: Sequence[Measurement]) -> Mapping[str, Any]:
    """Collect the expectations that the results carry, from the recipes that measured them."""
    found: dict[str, Any] = {}
    for one in measurements:
        found |= one.result.get("expectations") or {}
    return found

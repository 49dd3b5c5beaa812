"""`x2kit data check`: every record of a recipe read and drawn once, and what is broken about them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import jsonargparse
from rich.table import Table

from x2kit.errors import X2KitError
from x2kit.recipe.reading import ResolvedRecipe
from x2kit.terminal import PlainConsole

if TYPE_CHECKING:
    from x2kit.data.checking import Check

HELP = "read and draw every record once, and count the broken ones by reason"
SHOWN = 3


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """How much, how fast, form of the result."""
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="only N records of each stream, evenly spread; duplicate ids are looked for among these alone",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes; as many as there are processors by default"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")


def run(resolved: ResolvedRecipe, options: jsonargparse.Namespace) -> int:
    """Check, show; 1 if a stream has more broken records than `data.max_bad_share`, or the evaluation any."""
    if options.limit is not None and options.limit < 1:
        raise X2KitError(f"--limit: at least 1 record must be checked, found {options.limit}")
    recipe = resolved.recipe
    from x2kit.data.checking import Check, units_of  # torch enters here
    from x2kit.evaluation.progress import TaskProgress

    evaluation = recipe.evaluation
    measured = None if evaluation is None else evaluation.source.for_split(evaluation.split)
    workers = _processors() if options.workers is None else options.workers
    assert resolved.facts is not None  # all checks were asked for
    check = Check(
        units_of(recipe.data.streams, measured),
        resolved.facts.vision.image,
        recipe.training.seed,
        options.limit,
        workers,
        recipe.data.limits,
    )
    interrupted = False
    try:
        with TaskProgress() as progress:
            for done in check.run():
                progress("checking", done, check.total)
    except KeyboardInterrupt:
        interrupted = True
    verdicts = _verdicts(check, recipe.data.max_bad_share)
    facts = _facts(check, recipe.data.max_bad_share, verdicts)
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        console = PlainConsole()
        for table in _tables(check):
            console.print(table)
        print("\n".join(_lines(check, verdicts)))
    if interrupted:
        raise KeyboardInterrupt(f"interrupted: {check.done} of {check.total} records were checked")
    return 1 if verdicts else 0


def _processors() -> int:
    """Processors that this process may use; all of the machine where the system cannot tell (macOS, Windows)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _broken(check: Check) -> dict[str, int]:
    counts = dict.fromkeys(check.drawn, 0)
    for (name, _), count in check.bad.counts.items():
        counts[name] += count
    return counts


def _verdicts(check: Check, max_share: float) -> list[str]:
    from x2kit.data.checking import EVALUATION

    found = []
    for name, count in _broken(check).items():
        drawn = check.drawn[name]
        share = f"{name}: {count} of {drawn} records are broken ({count / max(drawn, 1):.2%})"
        if name == EVALUATION and count:
            found.append(f"{share}; an evaluation stops at the first")
        elif name != EVALUATION and count > max_share * drawn:
            found.append(f"{share}, more than data.max_bad_share = {max_share:g}")
    return found


def _facts(check: Check, max_share: float, verdicts: list[str]) -> dict[str, Any]:
    streams: dict[str, Any] = {
        name: {"records": check.drawn[name], "broken": count, "reasons": {}}
        for name, count in _broken(check).items()
    }
    for (name, reason), count in check.bad.counts.items():
        samples = [
            {
                "record": fault.record,
                "message": fault.message,
                **(fault.place._asdict() if fault.place else {}),
            }
            for fault in check.bad.kept(name, reason)
        ]
        streams[name]["reasons"][reason.value] = {"count": count, "samples": samples}
    return {
        "checked": check.done,
        "records": check.total,
        "complete": check.complete,
        "max_bad_share": max_share,
        "streams": streams,
        "too_many": verdicts,
    }


def _tables(check: Check) -> list[Table]:
    summary = Table("stream", "records", "broken", "share")
    broken = _broken(check)
    for name, drawn in check.drawn.items():
        summary.add_row(name, str(drawn), str(broken[name]), f"{broken[name] / max(drawn, 1):.2%}")
    if not check.bad.total:
        return [summary]
    reasons = Table("stream", "reason", "count")
    for (name, reason), count in sorted(check.bad.counts.items(), key=lambda item: (item[0][0], -item[1])):
        reasons.add_row(name, reason.value, str(count))
    return [summary, reasons]


def _lines(check: Check, verdicts: list[str]) -> list[str]:
    """Some records of each reason, whole lines that can be searched and copied, and the verdict."""
    lines = []
    for name, reason in sorted(check.bad.counts):
        lines.append(f"{name}, {reason}:")
        lines += [f"  {fault.record}: {fault.message}" for fault in check.bad.kept(name, reason)[:SHOWN]]
    if not check.complete:
        return [*lines, *verdicts]
    return [
        *lines,
        *(verdicts or [f"sound: no stream has more broken records than it may ({check.done} checked)"]),
    ]

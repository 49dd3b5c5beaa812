"""`x2kit data check`: read every record once, count broken ones and find problems."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jsonargparse
from rich.table import Table

from x2kit.cli.data.findings import Findings
from x2kit.errors import X2KitError
from x2kit.evaluation.config import OFFICIAL, EvaluationConfig
from x2kit.plugin.components import TaskConfig
from x2kit.recipe.reading import ResolvedRecipe
from x2kit.terminal import ByteProgress, PlainConsole

if TYPE_CHECKING:
    from x2kit import Recipe
    from x2kit.data.validation.check import Check, Measured
    from x2kit.plugin.tokenizers import Tokenizer

HELP = "read every record once; count broken records, truncated texts, duplicate captions and images"
SHOWN = 3
VALIDATION = "validation"
"""Stream name of the records of validation during training."""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add limit, workers and output options."""
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="check N evenly spaced records of each stream; duplicate ids are found only among these",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="worker processes; one per available CPU by default"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")


def run(resolved: ResolvedRecipe, options: jsonargparse.Namespace) -> int:
    """Check and print; returns 1 if too many records are broken or a problem is found."""
    if options.limit is not None and options.limit < 1:
        raise X2KitError(f"--limit: should be 1 or more, found {options.limit}")
    recipe = resolved.recipe
    from x2kit.data.validation.check import Check, check_units  # imports torch
    from x2kit.terminal import TaskProgress

    workers = _available_cpus() if options.workers is None else options.workers
    assert resolved.facts is not None  # read with all checks
    tokenizer, without_tokens = _tokenizer(recipe)
    measured = _measured(recipe.evaluation, resolved.facts.text.max_length)
    check = Check(
        check_units(recipe.data.streams, measured),
        resolved.facts.vision.image,
        recipe.training.seed,
        options.limit,
        workers,
        recipe.data.limits,
        tokenizer,
    )
    rows, columns = resolved.facts.vision.grid
    findings = Findings(
        check,
        _expected_languages(recipe, measured),
        rows * columns,
        "words" if tokenizer is None else "tokens",
        _row_positives(recipe.evaluation),
    )
    interrupted = False
    try:
        with TaskProgress() as progress:
            for done in check.run():
                progress("checking", done, check.total)
    except KeyboardInterrupt:
        interrupted = True
    share_problems = _share_problems(check, recipe.data.max_bad_share)
    problems = [*without_tokens, *findings.problems()]
    if options.json:
        facts = _facts(check, recipe.data.max_bad_share, share_problems, problems, findings)
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        console = PlainConsole()
        for table in (*_tables(check), *findings.tables()):
            console.print(table)
        print("\n".join(_lines(check, share_problems, problems)))
    if interrupted:
        raise KeyboardInterrupt(f"interrupted: {check.done} of {check.total} records checked")
    return 1 if share_problems or problems else 0


def _tokenizer(recipe: Recipe) -> tuple[Tokenizer | None, list[str]]:
    """Build the tokenizer of the run; on failure None and the reason, and words are counted."""
    from x2kit.data.pipeline.corpus import training_texts
    from x2kit.interop.named_weights import initial_weights
    from x2kit.model.initialisation import build_started_tokenizer

    try:
        with ByteProgress() as progress:
            source = initial_weights(recipe, progress=progress)
        return build_started_tokenizer(recipe.model, training_texts(recipe.data), source), []
    except X2KitError as error:
        return None, [f"no tokenizer, so words were counted instead of tokens: {error}"]


def _measured(evaluation: EvaluationConfig | None, max_length: int) -> dict[str, Measured]:
    """Return each source of evaluation and validation with the lowest text limits of its tasks, by name."""
    from x2kit.data.validation.check import EVALUATION, Measured
    from x2kit.data.validation.statistics import TextLimits

    if evaluation is None:
        return {}
    split = evaluation.split
    groups = {EVALUATION: {key: one.for_split(split) for key, one in evaluation.keyed_sources().items()}}
    if evaluation.every is not None and evaluation.select_on != OFFICIAL:
        groups[VALIDATION] = evaluation.validation_sources()
    found = {}
    for group, sources in groups.items():
        for key, source in sources.items():
            own = key.removeprefix("sources.")
            tasks = [
                task
                for name, task in evaluation.tasks.items()
                if name == own or (own == key and f"sources.{name}" not in sources)
            ]
            if tasks:
                limits = TextLimits(
                    min(task.max_words for task in tasks),
                    min(max_length, *(task.max_tokens for task in tasks)),
                )
                by_row = tuple(task for task in tasks if type(task).run is TaskConfig.run)
                name = group if own == key else f"{group}.{own}"
                found[name] = Measured(source, limits, by_row)
    return found


def _expected_languages(recipe: Recipe, measured: Mapping[str, Measured]) -> dict[str, tuple[str, ...]]:
    wanted = {
        name: stream.languages or stream.source.languages() for name, stream in recipe.data.streams.items()
    }
    chosen = recipe.evaluation.languages if recipe.evaluation else None
    own = recipe.evaluation.select_source if recipe.evaluation else None
    for name, (source, *_) in measured.items():
        wanted[name] = source.languages() if source is own else chosen or source.languages()
    return {name: codes for name, codes in wanted.items() if codes is not None}


def _row_positives(evaluation: EvaluationConfig | None) -> bool:
    tasks = evaluation.tasks.values() if evaluation else ()
    return any(task.model_dump().get("positives") == "row" for task in tasks)


def _available_cpus() -> int:
    """Count the CPUs available to this process; all of the machine on macOS and Windows."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _broken(check: Check) -> dict[str, int]:
    counts = dict.fromkeys(check.drawn, 0)
    for (name, _), count in check.bad.counts.items():
        counts[name] += count
    return counts


def _share_problems(check: Check, max_share: float) -> list[str]:
    measured = {unit.name for unit in check.units if unit.config is None}
    found = []
    for name, count in _broken(check).items():
        drawn = check.drawn[name]
        share = f"{name}: {count} of {drawn} records are broken ({count / max(drawn, 1):.2%})"
        if name in measured and count:
            found.append(f"{share}; an evaluation stops at the first")
        elif name not in measured and count > max_share * drawn:
            found.append(f"{share}, more than data.max_bad_share = {max_share:g}")
    return found


def _facts(
    check: Check, max_share: float, share_problems: list[str], problems: list[str], findings: Findings
) -> dict[str, Any]:
    streams: dict[str, Any] = {
        name: {
            "records": check.drawn[name],
            "broken": count,
            "reasons": {},
            "languages": findings.texts_as_json(name),
            "boxes": findings.boxes_as_json(name),
            "fields": findings.fields_as_json(name),
        }
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
        "equal": findings.equal_as_json(),
        "too_many": share_problems,
        "problems": problems,
        "sound": check.complete and not share_problems and not problems,
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


def _lines(check: Check, share_problems: list[str], problems: list[str]) -> list[str]:
    """Format sample records of each reason, unwrapped, and the problems."""
    from x2kit.data.validation.bad_records import describe_broken

    lines = []
    for name, reason in sorted(check.bad.counts):
        lines.append(f"{name}, {reason}:")
        lines += [f"  {describe_broken(fault)}" for fault in check.bad.kept(name, reason)[:SHOWN]]
    found = [*share_problems, *(f"problem: {problem}" for problem in problems)]
    if check.complete and not found:
        found = [f"no problems found ({check.done} records checked)"]
    return [*lines, *found]

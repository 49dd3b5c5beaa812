"""`x2kit iglue`: fine-tune and measure the five tasks of IGLUE, and print their table."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jsonargparse

from x2kit.cli.model_names import NAMES, directory_of
from x2kit.cli.parser import add_plugin_argument
from x2kit.cli.run_directory import holds_run
from x2kit.distributed.processes import ALONE
from x2kit.errors import X2KitError
from x2kit.evaluation.iglue import BENCHMARKS
from x2kit.io.atomic import atomic_file
from x2kit.io.run_directory import WEIGHTS
from x2kit.terminal import PlainConsole

HELP = "fine-tune and measure the five tasks of IGLUE in all languages, and print one table"
RECIPE_KEYS = ("training",)
PROTOCOLS = ("cclm", "iglue")
EXAMPLES = """\
examples:
  x2kit iglue runs/iglue --from cclm-x2vlm-base                     # five runs in English, then the table
  x2kit iglue runs/iglue                                            # the table of what was trained
  x2kit iglue runs/iglue --weights xflickrco=weights/cclm-base --weights wit=weights/cclm-base
  x2kit iglue runs/iglue --translated                               # tests translated to English
  x2kit iglue runs/iglue --few-shot cclm --languages de zh          # continue in these languages
  x2kit iglue runs/iglue --from weights/cclm-base --launch "torchrun --nproc-per-node 8" --config overlays/bf16

Each task has a run in the directory, trained by its recipe in finetune/. A run that was stopped is resumed, one that is
finished is kept, and a result of the same weights is not measured again.
"""


class Stage(NamedTuple):
    """Recipes and few-shot data of one task.

    Attributes:
        recipe: that fine-tunes it in English, and evaluates it in all languages.
        stream: of the few-shot recipes, whose source has a split for each language.
        train: split of the largest number of shots, with {language}.
        test: split of the test set.
        languages: with few-shot data.
        overlay: of both, such as the test set of IGLUE.
        dev: split for validation by the protocol of IGLUE; empty for an English one.
    """

    recipe: str
    stream: str = ""
    train: str = ""
    test: str = ""
    languages: tuple[str, ...] = ()
    overlay: str = ""
    dev: str = ""


STAGES = {
    "xgqa": Stage(
        "finetune/xgqa",
        "questions",
        "{language}/train_48",
        "{language}/test",
        ("bn", "de", "id", "ko", "pt", "ru", "zh"),
        "overlays/iglue/xgqa",
        "{language}/dev",
    ),
    "xvnli": Stage(
        "finetune/xvnli", "hypotheses", "{language}/train_48", "{language}/test", ("ar", "es", "fr", "ru")
    ),
    "marvl": Stage("finetune/marvl", "pairs", "{language}_train10x2", "{language}", ("id", "tr", "zh")),
    "xflickrco": Stage(
        "finetune/retrieval-xflickrco",
        "images",
        "{language}/train_100",
        "{language}/test",
        ("de", "es", "id", "ja", "ru", "tr", "zh"),
    ),
    "wit": Stage("finetune/retrieval-wit"),
}


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add directory, weights, setting and output options."""
    parser.add_argument("directory", help="holds a run for each task, and the table")
    parser.add_argument(
        "--from",
        dest="start",
        type=str,
        metavar="MODEL",
        help=f"pretrained model, from which tasks without a run are fine-tuned in English: {NAMES}",
    )
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="TASK=MODEL",
        help=f"fine-tuned model of a task in place of its run; tasks: {', '.join(STAGES)}; repeatable",
    )
    parser.add_argument(
        "--tasks", nargs="+", choices=tuple(STAGES), default=list(STAGES), help="measure only these tasks"
    )
    parser.add_argument(
        "--translated",
        action="store_true",
        help="measure on the tests that IGLUE has translated to English by machine",
    )
    parser.add_argument(
        "--few-shot",
        choices=PROTOCOLS,
        help="fine-tune each task further in each language by the protocol of CCLM or IGLUE; WIT has no such data",
    )
    parser.add_argument(
        "--languages",
        nargs="+",
        metavar="CODE",
        help="languages of --few-shot; all that have data by default",
    )
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="[TASK=]FILE",
        help="an overlay of all trainings, or of one task, such as its paths; repeatable",
    )
    parser.add_argument(
        "--launch", type=str, metavar="COMMAND", help='starts each training and evaluation: "torchrun ..."'
    )
    add_plugin_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the table as JSON")


def run(options: jsonargparse.Namespace) -> int:
    """Train and measure what is missing, write the table to the directory and print it."""
    if options.translated and options.few_shot:
        raise X2KitError("--translated, --few-shot: give one of them")
    from x2kit.evaluation.harness import read_result  # imports torch
    from x2kit.evaluation.iglue import collect, render

    session = _Session(options)
    results = {name: [read_result(file) for file in session.results_of(name)] for name in options.tasks}
    table = collect(results)
    if not table["tasks"]:
        raise X2KitError(
            f"{options.directory}: no task has weights; give pretrained weights with --from, or those of a task with "
            "--weights TASK=MODEL"
        )
    table = {"setting": session.setting, **table}
    output = Path(options.directory) / f"iglue-{session.setting}.json"
    with atomic_file(output) as partial:
        partial.write_text(json.dumps(table, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(table, ensure_ascii=False, indent=2))
        return 0
    console = PlainConsole()
    console.print(f"IGLUE, {session.setting}")
    console.print(render(table))
    for line in (*session.skipped, *table["warnings"]):
        print(f"warning: {line}")
    print(output)
    return 0


class _Session:
    """Train and evaluate the runs of a directory.

    Attributes:
        setting: zero-shot, translate-test, few-shot-cclm or few-shot-iglue.
        skipped: a sentence for each task without weights.
    """

    def __init__(self, options: jsonargparse.Namespace) -> None:
        self._options = options
        self._directory = Path(options.directory)
        self._weights = dict(_pair(each, "--weights") for each in options.weights)
        self.setting = "translate-test" if options.translated else "zero-shot"
        if options.few_shot:
            self.setting = f"few-shot-{options.few_shot}"
        self.skipped: list[str] = []

    def results_of(self, task: str) -> Iterator[Path]:
        """Yield the results of a task: one, or with few-shot one for each language."""
        weights = self._trained(task)
        if weights is None:
            self.skipped.append(
                f"{BENCHMARKS[task].title}: no run in {self._directory / task}, so it is left out"
            )
        elif self._options.few_shot:
            yield from self._few_shot(task, weights)
        else:
            yield self._evaluated(task, weights)

    def _trained(self, task: str) -> Path | None:
        """Return weights that are fine-tuned in English, trained if there are none; None without --from."""
        if task in self._weights:
            return directory_of(self._weights[task], self._options.plugin, ALONE)
        directory, start = self._directory / task, self._options.start
        if not (directory / WEIGHTS).is_dir() and (start is not None or holds_run(directory)):
            self._train(STAGES[task].recipe, directory, task, start, overlay=STAGES[task].overlay)
        return directory if (directory / WEIGHTS).is_dir() else None

    def _evaluated(self, task: str, weights: Path) -> Path:
        """Return the result of weights in all languages, measured if there is none of these weights."""
        file = self._directory / task / f"iglue-{self.setting}.json"
        if not _is_of(file, weights):
            file.parent.mkdir(parents=True, exist_ok=True)
            arguments = ["evaluate", str(weights), "--output", str(file)]
            if task in self._weights:
                arguments += ["--recipe", STAGES[task].recipe, *self._overlays(task, STAGES[task].overlay)]
            if self._options.translated:
                arguments += ["--config", f"overlays/translated/{task}"]
            self._x2kit(arguments)
        return file

    def _few_shot(self, task: str, weights: Path) -> Iterator[Path]:
        stage = STAGES[task]
        for language in self._options.languages or stage.languages:
            if language not in stage.languages:
                continue
            directory = self._directory / self.setting / f"{task}-{language}"
            train, test = (split.format(language=language) for split in (stage.train, stage.test))
            keys = {
                f"data.streams.{stage.stream}.source.split": train,
                f"data.streams.{stage.stream}.source.language": language,
                "evaluation.split": test,
                "evaluation.source.language": language,
            }
            if stage.dev and self._options.few_shot == "iglue":
                keys["evaluation.select_on"] = stage.dev.format(language=language)
            recipe = f"finetune/few-shot/{task}-{self._options.few_shot}"
            if not (directory / WEIGHTS).is_dir():
                self._train(recipe, directory, task, str(weights), keys)
            file = directory / "evaluation.json"
            if not _is_of(file, directory):
                self._x2kit(["evaluate", str(directory)])
            yield file

    def _train(
        self,
        recipe: str,
        directory: Path,
        task: str,
        start: str | None,
        keys: Mapping[str, str] = MappingProxyType({}),
        overlay: str = "",
    ) -> None:
        if holds_run(directory):
            self._x2kit(["train", "--resume", "--run-dir", str(directory)])
            return
        given = {**keys, "model.init_from": start, **dict(self._options.recipe_keys.values)}
        options = [f"--{key}={value}" for key, value in given.items()]
        self._x2kit(["train", recipe, "--run-dir", str(directory), *self._overlays(task, overlay), *options])

    def _overlays(self, task: str, own: str) -> list[str]:
        """Return the options of the task's own overlay, and of those that are for all tasks or for this one."""
        found = ["--config", own] if own else []
        for each in self._options.config:
            name, equals, file = each.partition("=")
            if not equals or name not in STAGES:
                found += ["--config", each]
            elif name == task:
                found += ["--config", file]
        return found

    def _x2kit(self, arguments: Sequence[str]) -> None:
        """Run a subcommand, in this process unless `--launch` is given. Raises X2KitError if it fails."""
        arguments = [*arguments, *(part for name in self._options.plugin for part in ("--plugin", name))]
        print(f"x2kit {shlex.join(arguments)}", flush=True)
        if self._options.launch:
            status = subprocess.run(
                [*shlex.split(self._options.launch), "-m", "x2kit", *arguments]
            ).returncode
        else:
            from x2kit.cli import main

            status = main(arguments)
        if status:
            raise X2KitError(
                f"x2kit {arguments[0]} has failed with exit status {status}; see its messages above"
            )


def _is_of(file: Path, weights: Path) -> bool:
    """Return whether a file is the result of these weights."""
    from x2kit.evaluation.harness import describe_checkpoint, read_result
    from x2kit.model.saving import weights_directory

    if not file.is_file():
        return False
    current: str = describe_checkpoint(weights_directory(weights))["sha256"]
    return current == str(read_result(file)["checkpoint"]["sha256"])


def _pair(value: str, option: str) -> tuple[str, str]:
    name, equals, directory = value.partition("=")
    if not equals or name not in STAGES:
        raise X2KitError(
            f"{option}: expected TASK=MODEL with TASK one of {', '.join(STAGES)}, found {value!r}"
        )
    return name, directory

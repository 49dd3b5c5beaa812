from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.progress import Progress
from rich.table import Table

import x2kit
from x2kit.evaluation.table import render
from x2kit.terminal import ByteProgress, PlainColumn, PlainConsole, TaskProgress
from x2kit.training.logging.progress import StepProgress

TEXT = "parallel-train.jsonl:100: [bold]x[/bold] [en] :smile:"


def printed(item: object) -> str:
    out = io.StringIO()
    PlainConsole(file=out, width=200).print(item)
    return out.getvalue()


def test_texts_tables_and_their_titles_keep_codes_and_brackets() -> None:
    table = Table(TEXT, title=TEXT)
    table.add_row(TEXT)
    assert printed(TEXT) == f"{TEXT}\n"
    assert printed(table).count(TEXT) == 3


def test_a_progress_column_keeps_codes_and_brackets() -> None:
    bar = Progress(PlainColumn("{task.description}"))
    task = bar.add_task(TEXT)
    assert str(bar.columns[0](bar.tasks[task])) == TEXT


def test_a_progress_line_keeps_codes_and_brackets() -> None:
    out = io.StringIO()
    clock = iter([0.0, 20.0])
    with TaskProgress(PlainConsole(file=out, width=200), lambda: next(clock)) as progress:
        progress(TEXT, 1, 2)
    assert out.getvalue() == f"{TEXT}: 1/2\n"


def test_a_training_message_keeps_codes_and_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    with StepProgress(steps=1, done=0) as progress:
        progress.say(TEXT)
        progress.show(1, {":100:": 1.0})
    said, shown = capsys.readouterr().out.splitlines()
    assert said == TEXT
    assert ":100: 1" in shown


def test_a_warning_of_a_result_keeps_codes_and_brackets() -> None:
    assert TEXT in printed(render({"warnings": [TEXT]}))


def test_no_other_module_creates_consoles_or_columns() -> None:
    package = Path(x2kit.__file__).parent
    own = re.compile(r"import .*\b(Console|TextColumn)\b|\brich\.print\b|from rich import")
    found = [
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if file.name != "terminal.py" and own.search(file.read_text(encoding="utf-8"))
    ]
    assert found == []


def shown(terminal: bool, times: list[float]) -> str:
    out = io.StringIO()
    console = PlainConsole(file=out, force_terminal=terminal, width=80, color_system=None)
    clock = iter(times)
    with TaskProgress(console, lambda: next(clock)) as progress:
        for done in range(1, len(times)):
            progress(f"matching, l{done}", done, 9)
    return out.getvalue()


def test_a_file_gets_a_line_every_fifteen_seconds() -> None:
    lines = shown(False, [0, 1, 16, 20, 30, 32]).splitlines()
    assert lines == ["matching, l2: 2/9", "matching, l5: 5/9"]


def test_a_short_measurement_leaves_no_line_in_a_file() -> None:
    assert shown(False, [0, 1, 2]) == ""


def test_a_terminal_shows_what_is_measured_now() -> None:
    assert "matching, l2" in shown(True, [0, 1, 2])


def downloaded(terminal: bool, times: list[float]) -> str:
    out = io.StringIO()
    console = PlainConsole(file=out, force_terminal=terminal, width=90, color_system=None)
    clock = iter(times)
    with ByteProgress(console, lambda: next(clock)) as progress:
        for done in range(1, len(times)):
            progress("downloading a[en].th", done * 10**6, 9 * 10**6 if done > 1 else None)
    return out.getvalue()


def test_a_download_is_a_line_every_fifteen_seconds_in_a_file() -> None:
    lines = downloaded(False, [0, 16, 20, 40]).splitlines()
    assert lines == ["downloading a[en].th: 1 MB", "downloading a[en].th: 3 of 9 MB"]
    assert downloaded(False, [0]) == ""


def test_a_download_is_a_bar_on_a_terminal() -> None:
    assert "downloading a[en].th" in downloaded(True, [0, 1, 2])
    assert downloaded(True, [0]) == ""

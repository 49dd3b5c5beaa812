"""Options and choices that do not exist are answered with the nearest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (("train", "good.yaml", "--pluggin", "stubs.py"), "--plugin"),
        (("evaluate", "run", "--pluggin=stubs.py"), "--plugin"),
        (("recipes", "show", "good.yaml", "--pluggin", "stubs.py"), "--plugin"),
        (("plugins", "list", "--pluggin", "stubs.py"), "--plugin"),
        (("plugins", "list", "--kind", "visoin"), "vision"),
        (("plugins", "chek", "stubs.py"), "check"),
        (("data", "chck", "good.yaml"), "check"),
    ],
)
def test_a_misspelt_option_or_action_names_the_nearest(
    x2kit: Run, arguments: tuple[str, ...], nearest: str
) -> None:
    done = x2kit(*arguments)
    assert done.status == 2
    assert done.err.rstrip().endswith(f"; nearest: {nearest}")


def test_an_option_like_no_other_names_no_nearest(x2kit: Run) -> None:
    done = x2kit("train", "good.yaml", "--zzz")
    assert done.err.rstrip().endswith("unrecognized arguments: --zzz")


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (("plugins", "list", "--kind", "visoin"), "vision"),
        (("plugins", "new", "mine", "--kind", "fuson"), "fusion"),
        (("recipes", "validate", "good.yaml", "--accelerator", "h10"), "h100"),
        (("convert", "a.th", "b", "--to", "offical"), "official"),
    ],
)
def test_a_wrong_choice_names_the_nearest(x2kit: Run, arguments: tuple[str, ...], nearest: str) -> None:
    done = x2kit(*arguments)
    assert done.status == 2
    assert arguments[-2] in done.err
    assert f"invalid choice: {arguments[-1]!r}" in done.err
    assert f"nearest: {nearest}" in done.err


def test_a_missing_file_of_data_names_the_nearest(folder: Any, x2kit: Run) -> None:
    (folder / "parallel.jsonl").write_text('{"texts": {"en": "a dog", "de": "ein hund"}}\n')
    source = "{class_path: JsonLines, init_args: {files: [paralel.jsonl]}}"
    done = x2kit("recipes", "validate", "good.yaml", "--data.streams.parallel.source", source)
    assert done.status != 0
    assert f"paralel.jsonl; nearest: {folder / 'parallel.jsonl'}" in done.out + done.err

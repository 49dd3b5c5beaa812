from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]


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

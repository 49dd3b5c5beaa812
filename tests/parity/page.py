"""Write docs/reference/parity.md: compared quantities and their differences from the recording.

Differences have one digit, so that the page is nearly the same from every machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from .evidence import Deliberate, Seen

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "parity.md"

INTRODUCTION = """\
# Parity with the official implementation

<!-- Written by `make parity`. Change the tests, then run it again. -->

The official code of X²-VLM was run on tiny models, on a CPU, in single precision, with random weights that make
every path count. What went in, what came out, and every name and shape of the published checkpoints lie in
`tests/reference`. The tests in `tests/parity` give x2kit the same weights and the same input, and compare.

```bash
make parity                                # compares, and writes this page
pytest tests/parity                        # compares
X2KIT_REFERENCE=DIR pytest tests/parity    # with another recording of the same layout
```

No size, seed or number of cases is written in the tests, so another recording may have its own.
`python -m tests.parity.other_recording DIR` makes one whose right values follow from the recorded ones.
`python -m tests.parity.deeper_recording DIR` makes one with twice as many fusion layers, a decoder as deep and the
start of one half as deep; its gradients and training run are computed by a model that is written out and that
reproduces the recorded ones."""

LEGEND = """\
## What was compared

Behind each quantity stands the largest difference that was seen. Tolerances are absolute; “rel” is relative to the
largest element of the recorded tensor, and “equal” is equal in every bit or letter. A name with stars stands for as
many quantities as the number behind it says. Single precision has noise of its own: the official code in float32 and
in float64 differs by up to 5e-6 in tokens and logits, 1e-6 in losses and 2e-5 in gradients.

`config.json`, `model.safetensors`, `cclm_v1_model.safetensors`, `images.safetensors`,
`train_batch1.safetensors` and `text_checkpoint.safetensors` hold only what is
given to both."""

FOLDERS = {
    "xvlm": "The image-text model: outputs, losses, gradients, parameter groups, a training run",
    "cclm": "The multilingual model, with parallel texts: the same",
    "cclm_init": "The swap of the text encoder by XLM-R: where every tensor begins",
    "init": "Text checkpoints of other depths: which layer fills which",
    "keys": "Published checkpoints: names, shapes, numbers of parameters",
    "relpos": "Other image sizes: position tables and features",
    "regions": "Regions: patches under a box, boxes in a crop",
    "retrieval": "Retrieval: features, matching scores, ranks, recalls",
    "tasks": "Answers, captions, grounding, reasoning over two images",
    "tasks_more": "The tasks as a whole: questions, pairs of images, captions, weak grounding, metrics",
    "dist": "The contrastive loss in two processes",
    "schedule": "Learning rates over the steps",
    "text": "Cleaning of texts",
    "video": "Frames of a clip",
}
"""What the folders of a recording hold, in the order of the page; others come behind."""

MANY = 24
"""More quantities than this that begin with the same name are one entry."""


Item = TypeVar("Item", Seen, str)
Key = TypeVar("Key")


class Row(NamedTuple):
    """A line of the page: what was compared in these files within one tolerance."""

    files: list[str]
    seen: list[Seen]


def page(seen: Iterable[Seen], deliberate: Sequence[Deliberate]) -> str:
    """The page.

    Args:
        seen: comparisons in any order.
        deliberate: what x2kit does otherwise.
    """
    by_folder = _grouped(seen, lambda one: one.file.partition("/")[0])
    order = sorted(by_folder, key=lambda folder: [*FOLDERS, folder].index(folder))
    summary = [("folder", "what", "values", "of what is allowed, at most")]
    summary += [_summary(folder, by_folder[folder]) for folder in order]
    differences = [("x2kit", "as the official code", "why"), *deliberate]
    parts = [INTRODUCTION, _table(summary), "## Deliberately different", _table(differences), LEGEND]
    for folder in order:
        head = ("file", "values", "tolerance", "quantities and largest differences")
        parts += [f"### {folder}", _table([head, *(_line(row) for row in rows(by_folder[folder]))])]
    return "\n\n".join(parts) + "\n"


def rows(seen: Iterable[Seen]) -> list[Row]:
    """One for each file and tolerance; files in which all the same was compared are one."""
    alike: dict[frozenset[object], Row] = {}
    for file, found in _grouped(seen, lambda one: one.file).items():
        row = alike.setdefault(frozenset((one.atol, one.rtol, one.quantity) for one in found), Row([], []))
        row.files.append(file)
        row.seen.extend(found)
    return [
        Row(row.files, found)
        for row in alike.values()
        for found in _grouped(row.seen, lambda one: (one.atol, one.rtol)).values()
    ]


def entries(quantities: Iterable[str]) -> dict[str, list[str]]:
    """Quantities by what stands for them: many that begin alike, and those that differ in numbers, are one entry."""
    heads = _grouped(quantities, lambda name: name.partition(".")[0])
    found = {f"{head}.*": names for head, names in heads.items() if len(names) > MANY}
    others = [name for names in heads.values() if len(names) <= MANY for name in names]
    for alike in _grouped(others, lambda name: re.sub(r"\d+", "*", name)).values():
        parts = zip(*(re.split(r"(\d+)", name) for name in alike), strict=True)
        found["".join("*" if len(set(part)) > 1 else part[0] for part in parts)] = alike
    return dict(sorted(found.items()))


def _grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    found: dict[Key, list[Item]] = {}
    for item in sorted(items):
        found.setdefault(key(item), []).append(item)
    return found


def _summary(folder: str, seen: list[Seen]) -> tuple[str, str, str, str]:
    shares = [one.difference / one.limit for one in seen if one.limit]
    share = f"{max(float(f'{100 * max(shares):.0e}'), 1):.0f} %" if shares else "all equal"
    return f"[{folder}](#{folder})", FOLDERS.get(folder, ""), _values(seen), share


def _line(row: Row) -> tuple[str, str, str, str]:
    files = ", ".join(f"`{file.partition('/')[2]}`" for file in row.files)
    one = row.seen[0]
    tolerance = [_digit(one.atol)] * (one.atol > 0) + [f"{_digit(one.rtol)} rel"] * (one.rtol > 0)
    told = []
    for entry, names in entries({each.quantity for each in row.seen}).items():
        largest = max(each.difference for each in row.seen if each.quantity in names)
        count = f" ({len(names)})" * (len(names) > 1)
        told.append(f"`{entry}`{count}" + f" {_digit(largest)}" * bool(tolerance))
    return files, _values(row.seen), " + ".join(tolerance) or "equal", ", ".join(told)


def _values(seen: Iterable[Seen]) -> str:
    return f"{sum(one.values for one in seen):,}"


def _digit(value: float) -> str:
    """With one digit: 2e-5, 0."""
    return f"{value:.0e}".replace("e-0", "e-") if value else "0"


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *body = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
    rule = " | ".join("---" for _ in lines[0])
    return "\n".join(f"| {line} |" for line in (head, rule, *body))

"""Render a result as a terminal table: languages, means, warnings. Imports no torch.

The table has per cent, the file fractions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from x2kit.evaluation.expectations import published_lines
from x2kit.evaluation.warnings import grounding_rows, retrieval_rows

Row = Mapping[str, Any]
DIRECTIONS = {"image_to_text": "i→t", "text_to_image": "t→i"}


class Column(NamedTuple):
    """A column: heading in two lines, and a function from language to share, or None without one."""

    title: str
    share: Callable[[str], float | None]


def render(result: Mapping[str, Any]) -> RenderableType:
    """Render a table by language, notes on the measurement, and warnings.

    Args:
        result: of `evaluate` or `evaluation.json`; tasks that were not measured may be missing.
    """
    parts: list[RenderableType] = []
    if retrieval_rows(result) or grounding_rows(result)[1]:
        parts += [_table(result), Text("\n".join(_notes(result)), style="dim")]
    if result.get("scores"):
        parts.append(_scores_table(result))
    parts += [Text(f"{name}: {value}") for name, value in _others(result)]
    with_own_records = (result.get("data") or {}).get("sources") or {}
    for name, task in (result.get("tasks") or {}).items():
        if "result" in task:
            split = None if name in with_own_records else result.get("split")
            parts += [Text(f"\n{name}", style="bold"), render({"split": split, **task["result"]})]
    parts += [Text(line, style="dim") for line in published_lines(result)]
    parts += [Text(f"warning: {text}", style="bold red") for text in result.get("warnings") or ()]
    return Group(*parts)


def _table(result: Mapping[str, Any]) -> Table:
    columns = list(_columns(result))
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0, pad_edge=False)
    table.add_column("per cent\n", no_wrap=True)
    for column in columns:
        begins_group = not column.title.startswith("\n")
        table.add_column(column.title, justify="right", no_wrap=True, min_width=6 if begins_group else None)

    def add(name: str, codes: Sequence[str], style: str = "", last: bool = False) -> None:
        cells = [_per_cent([column.share(code) for code in codes]) for column in columns]
        table.add_row(name, *cells, style=style, end_section=last)

    groups, labels = _groups(result), _labels(result)
    for title, codes in groups.items():
        for code in codes:
            add(labels.get(code, code), [code])
        add(f"mean {title}", codes, "bold", last=True)
    return table


def _scores_table(result: Mapping[str, Any]) -> Table:
    """Build the table of a task that is measured row by row: shares in per cent, counts as they are."""
    scores: Mapping[str, Row] = result["scores"]
    names = dict.fromkeys(name for row in scores.values() for name, value in row.items() if _is_number(value))
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0, pad_edge=False)
    table.add_column("per cent", no_wrap=True)
    for name in names:
        table.add_column(name.replace("_", " "), justify="right", min_width=6)
    for code, row in scores.items():
        zero_shot = "" if row.get("trained_with_images") else " (zero-shot)"
        table.add_row(f"{code}{zero_shot}", *[_number(row.get(name)) for name in names])
    table.columns[0].footer = "mean"
    for name, column in zip(names, table.columns[1:], strict=True):
        if name == result.get("score") and len(scores) > 1:
            table.show_footer, column.footer = True, _number(float(result["mean"]))
    return table


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return _shown(value) if isinstance(value, float) else f"{value:,}"


def _shown(share: float) -> str:
    """Format a share in per cent with one decimal; 100 has none, so that no column is wider for it."""
    return f"{100 * share:.1f}".replace("100.0", "100")


def _columns(result: Mapping[str, Any]) -> Iterator[Column]:
    languages = retrieval_rows(result)
    name, grounding = grounding_rows(result)
    if languages:
        for key, arrow in DIRECTIONS.items():
            for k in (1, 5, 10):
                yield Column(f"{arrow if k == 1 else ''}\nR@{k}", _at(languages, key, f"r{k}"))
    if any("reranked" in row for row in languages.values()):
        for number, (key, arrow) in enumerate(DIRECTIONS.items()):
            yield Column(
                f"{'' if number else 'reranked '}{arrow}\nR@1", _at(languages, "reranked", key, "r1")
            )
    if grounding:
        yield Column(f"grounding\n≥.{name.removeprefix('iou')}", _at(grounding, name))


def _at(rows: Mapping[str, Any], *keys: str) -> Callable[[str], float | None]:
    def share(code: str) -> float | None:
        found: Any = rows.get(code)
        for key in keys:
            found = None if found is None else found.get(key)
        return None if found is None else float(found)

    return share


def _labels(result: Mapping[str, Any]) -> dict[str, str]:
    """Name the rows: the language, with its number of images or regions if languages differ."""
    labels: dict[str, str] = {}
    for rows, key, noun in (
        (grounding_rows(result)[1], "regions", "regions"),
        (retrieval_rows(result), "candidates", "images"),
    ):
        counts = {code: row[key] for code, row in rows.items() if key in row}
        if len(set(counts.values())) > 1:
            labels |= {code: f"{code} ({count} {noun})" for code, count in counts.items()}
    return labels


def _per_cent(shares: Sequence[float | None]) -> str:
    known = [share for share in shares if share is not None]
    return _shown(fmean(known)) if known else "–"


def _groups(result: Mapping[str, Any]) -> dict[str, list[str]]:
    """Group languages into trained (with image-text data) and zero-shot; empty groups are omitted."""
    languages, (_, grounding) = retrieval_rows(result), grounding_rows(result)
    rows = {**grounding, **languages}
    order = dict.fromkeys([*languages, *grounding])
    groups: dict[str, list[str]] = {"trained": [], "zero-shot": []}
    for code in order:
        groups["trained" if rows[code].get("trained_with_images") else "zero-shot"].append(code)
    return {title: codes for title, codes in groups.items() if codes}


def _notes(result: Mapping[str, Any]) -> Iterator[str]:
    languages = retrieval_rows(result)
    _, grounding = grounding_rows(result)
    split = "its own records" if (found := result.get("split", "?")) is None else f"split {found}"
    yield f"{split}; zero-shot: no image-text training data in the language"
    if selection := result.get("selection"):
        yield (
            f"weights of step {selection['step']}, selected by {selection['metric']} on {selection['split']}: "
            f"{selection['value']:.4g}, the best of {selection['validations']} validations"
        )
    if languages:
        rows = languages.values()
        yield (
            f"i→t image to text, t→i text to image, by similarity: {_span(rows, 'candidates')} images, "
            f"{_span(rows, 'queries')} texts a language{_captions_per_image(languages)}; "
            f"chance R@1 {_span(rows, 'chance_r1', 100)} %"
        )
        if "mean_recall" in result:
            final = "after re-ranking" if any("reranked" in row for row in rows) else "by similarity"
            yield (
                f"mean of R@1, R@5 and R@10 in both directions, {final}: "
                f"{_per_cent([result['mean_recall']])} %"
            )
        shared = {code: row for code, row in languages.items() if row.get("highest_r1", 1) < 1}
        if shared:
            yield (
                f"equal texts or images of different records count as misses ({', '.join(shared)}): R@1 reaches at "
                f"most {_span(shared.values(), 'highest_r1', 100)} %, {_span(shared.values(), 'shared_captions')} "
                f"texts are shared; positives: {result.get('positives')}"
            )
    settings: Mapping[str, Any] = result.get("rerank") or {}
    if any("reranked" in row for row in languages.values()):
        how = {
            "combined": f"similarity / temperature + {settings.get('itm_weight')} log p(match)",
            "matching": "the matching head alone",
        }.get(str(settings.get("method")), settings.get("method"))
        yield f"reranked: the {settings.get('top_k')} best of each query by {how}"
    if grounding:
        rows = grounding.values()
        by_chance = (
            "a random detection" if any(row.get("with_detections") for row in rows) else "another region"
        )
        yield (
            f"grounding: IoU ≥ {result.get('grounding_iou')}, {_span(rows, 'regions')} regions a language; "
            f"chance, with the box of {by_chance}: {_span(rows, 'chance', 100)} %"
        )


def _captions_per_image(languages: Mapping[str, Any]) -> str:
    """Format the captions of an image: `, 5 captions an image`, or by language where they differ."""
    counts = {
        code: row["captions_per_image"] for code, row in languages.items() if "captions_per_image" in row
    }
    spans: dict[str, list[str]] = {}
    for code, count in counts.items():
        few, many = count["fewest"], count["most"]
        spans.setdefault(f"{few}" if few == many else f"{few} to {many}", []).append(code)
    if len(spans) == 1:
        count = next(iter(spans))
        return f", {count} caption{'' if count == '1' else 's'} an image"
    parts = (f"{span} in {', '.join(codes)}" for span, codes in spans.items())
    return f"; captions an image: {', '.join(parts)}" if spans else ""


def _span(rows: Any, key: str, scale: float = 1) -> str:
    """Format a number that all languages share, or its range."""
    found = sorted({row[key] * scale for row in rows if key in row})
    shown = list(dict.fromkeys(f"{value:.2g}" if scale != 1 else str(value) for value in found))
    return "?" if not shown else shown[0] if len(shown) == 1 else f"{shown[0]} to {shown[-1]}"


_DESCRIPTION = frozenset(
    [
        "task",
        "split",
        "checkpoint",
        "data",
        "model",
        "tasks",
        "plugins",
        "selection",
        "expectations",
        "seconds",
        "warnings",
        "rerank",
        "positives",
    ]
)
"""Keys that describe the measurement."""


def _others(result: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the numbers of other tasks, which the table does not show."""

    def numbers(name: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                yield from numbers(f"{name}.{key}", inner)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, f"{value:.4g}"

    shown = {"languages", "mean_recall"} if retrieval_rows(result) else set()
    shown |= {"scores", "score", "mean"} if result.get("scores") else set()
    shown |= {"grounding", "grounding_iou", "grounding_without"} if grounding_rows(result)[1] else set()
    means = ("mean_", "grounding_mean_") if shown else ()
    for name, value in result.items():
        if name not in _DESCRIPTION | shown and not name.startswith(means):
            yield from numbers(name, value)

"""Draw the numbers of evaluation.json: headline figures and a table by language. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from x2kit.evaluation.report.markup import Markup, join, tag
from x2kit.evaluation.warnings import grounding_rows, retrieval_rows

DIRECTIONS = (("image_to_text", "image → text"), ("text_to_image", "text → image"))
GROUPS = (("zero_shot", "zero-shot", False), ("trained", "trained", True))
"""Suffix of the means in the result, name on the page, whether trained with images."""
_BARS = ("r1", "found")


class Figure(NamedTuple):
    """A headline number: share of 1, chance level, description."""

    name: str
    value: float
    chance: float
    about: str


class Column(NamedTuple):
    """A column of the table: group, heading, and path of the value in a language's row."""

    group: str
    heading: str
    path: tuple[str, ...]


def draw_results(result: Mapping[str, Any]) -> Markup:
    """Draw headline figures, warnings and the table by language.

    Args:
        result: of evaluation.json; parts that were not measured may be missing.
    """
    return join(
        tag("div", [_tile(figure) for figure in headline(result)], class_="tiles"),
        [
            tag("p", tag("b", "Warning: "), text, class_="warning", role="alert")
            for text in result["warnings"]
        ],
        draw_table(result),
        [_scores_table(name, scored) for name, scored in scored_tasks(result).items()],
    )


def headline(result: Mapping[str, Any]) -> list[Figure]:
    """List the means over languages: retrieval before grounding, zero-shot before trained."""
    figures = []
    for key, word, trained in GROUPS:
        rows = _of_group(retrieval_rows(result), trained)
        if not rows:
            continue
        chance = fmean(row["chance_r1"] for row in rows.values())
        name = f"R@1, {word}"
        about = f"{_codes(rows)}; {_span(rows, 'queries')} texts × {_span(rows, 'candidates')} images; "
        about += "mean of both directions, by similarity"
        figures.append(Figure(name, result[f"mean_{key}"], chance, about))
        again = result.get(f"mean_reranked_{key}")
        if again is not None:
            figures.append(Figure(f"{name}, re-ranked", again, chance, rerank_rule(result)))
    column, grounding = grounding_rows(result)
    for _, word, trained in GROUPS:
        rows = _of_group(grounding, trained)
        if not rows:
            continue
        about = f"{_codes(rows)}; {_span(rows, 'regions')} regions, each predicted from its text and the whole image"
        figures.append(
            Figure(
                f"Grounding, IoU ≥ {result['grounding_iou']}, {word}",
                fmean(row[column] for row in rows.values()),
                fmean(row["chance"] for row in rows.values()),
                about,
            )
        )
    return figures + [
        figure for name, scored in scored_tasks(result).items() for figure in _scores(name, scored)
    ]


def scored_tasks(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the results of tasks that were measured row by row, by name."""
    tasks: Mapping[str, Any] = result.get("tasks") or {}
    return {name: task["result"] for name, task in tasks.items() if (task.get("result") or {}).get("scores")}


def _scores(name: str, result: Mapping[str, Any]) -> list[Figure]:
    """List the mean scores of a task, which are shares, zero-shot before trained."""
    figures = []
    for _, word, trained in GROUPS:
        rows = _of_group(result["scores"], trained)
        values = [row[result["score"]] for row in rows.values()]
        if rows and 0 <= max(values) <= 1:
            chance = fmean(row.get("chance") or 0.0 for row in rows.values())
            heading = f"{name}: {result['score'].replace('_', ' ')}, {word}"
            figures.append(Figure(heading, fmean(values), chance, _codes(rows)))
    return figures


def _scores_table(name: str, result: Mapping[str, Any]) -> Markup:
    """Draw all numbers of a task by language."""
    scores = result["scores"]
    keys = dict.fromkeys(key for row in scores.values() for key, value in row.items() if _is_number(value))
    columns = [Column(name, key.replace("_", " "), (key,)) for key in keys]
    body = []
    for _, word, trained in reversed(GROUPS):
        group = _of_group(scores, trained)
        body += [_row(code, row, columns) for code, row in group.items()]
        body += [_mean_row(f"mean {word}", list(group.values()), columns)] if len(group) > 1 else []
    table = tag("table", _head(columns), tag("tbody", body))
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=f"Results of {name}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def draw_table(result: Mapping[str, Any]) -> Markup | None:
    """Draw a row for each language, trained ones first: recall, grounding, chance and counts."""
    rows: dict[str, dict[str, Any]] = {code: dict(row) for code, row in retrieval_rows(result).items()}
    name, grounding = grounding_rows(result)
    for code, row in grounding.items():
        kind = {"trained_with_images": row["trained_with_images"]}
        rows.setdefault(code, kind)["grounding"] = {**row, "found": row[name]}
    if not rows:
        return None
    reranked = any("reranked" in row for row in rows.values())
    columns = _columns(result, reranked)
    body = []
    for _, word, trained in reversed(GROUPS):
        group = _of_group(rows, trained)
        body += [_row(code, row, columns) for code, row in group.items()]
        body += [_mean_row(f"mean {word}", list(group.values()), columns)] if len(group) > 1 else []
    notes = f"Split {result['split']}, in per cent. R@k: a positive is among the first k, ties counted as misses. "
    notes += "Chance: R@1 of a random order."
    if reranked:
        notes += f" Re-ranked: {rerank_rule(result)}."
    if grounding:
        notes += (
            " Chance of grounding: hits of a random detection, or without detections of another region's box."
        )
    table = tag(
        "table",
        _head(columns),
        tag("tbody", body),
    )
    return join(
        tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Results by language"),
        tag("p", notes, class_="note"),
    )


def percent(share: float) -> str:
    """Format a share in per cent, with two significant digits below 1 %."""
    value = 100 * share
    return f"{value:.2g} %" if 0 < value < 1 else f"{value:.1f} %"


def rerank_rule(result: Mapping[str, Any]) -> str:
    """Describe the re-ranking."""
    rerank = result["rerank"]
    rule = {
        "combined": f"by similarity / temperature + {rerank['itm_weight']} · log p(match)",
        "matching": "by the matching head alone",
    }.get(rerank["method"], rerank["method"])
    return f"the best {rerank['top_k']} of each query, {rule}"


def _columns(result: Mapping[str, Any], reranked: bool) -> list[Column]:
    columns = []
    if retrieval_rows(result):
        columns += [
            Column(name, f"R@{k}", (direction, f"r{k}")) for direction, name in DIRECTIONS for k in (1, 5, 10)
        ]
    if reranked:
        columns += [
            Column("re-ranked, R@1", name, ("reranked", direction, "r1")) for direction, name in DIRECTIONS
        ]
    if retrieval_rows(result):
        columns += [
            Column("retrieval, of", "chance", ("chance_r1",)),
            Column("retrieval, of", "texts", ("queries",)),
            Column("retrieval, of", "images", ("candidates",)),
        ]
    if grounding_rows(result)[1]:
        columns += [
            Column("grounding", f"IoU ≥ {result['grounding_iou']}", ("grounding", "found")),
            Column("grounding", "chance", ("grounding", "chance")),
            Column("grounding", "regions", ("grounding", "regions")),
        ]
    return columns


def _head(columns: Sequence[Column]) -> Markup:
    groups = list(dict.fromkeys(column.group for column in columns))
    spans = [(group, sum(column.group == group for column in columns)) for group in groups]
    return tag(
        "thead",
        tag("tr", tag("td"), [tag("th", name, colspan=str(span), scope="colgroup") for name, span in spans]),
        tag("tr", tag("th", "language", scope="col"), [tag("th", c.heading, scope="col") for c in columns]),
    )


def _row(code: str, row: Mapping[str, Any], columns: Sequence[Column]) -> Markup:
    trained = row["trained_with_images"]
    kind = tag("span", "trained" if trained else "zero-shot", class_="kind")
    cells = [_cell(_at(row, column.path), column.path[-1]) for column in columns]
    return tag("tr", tag("th", tag("b", code), kind, scope="row"), cells, class_="known" if trained else None)


def _mean_row(name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> Markup:
    """Draw means of shares; counts are shown if all rows agree."""
    cells = []
    for column in columns:
        values = [value for row in rows if (value := _at(row, column.path)) is not None]
        if len(set(values)) > 1 and isinstance(values[0], int):
            cells.append(tag("td"))
        else:
            same = values[:1] if len(set(values)) == 1 else [fmean(values)] if values else [None]
            cells.append(_cell(same[0], column.path[-1]))
    return tag("tr", tag("th", name, scope="row"), cells, class_="mean")


def _cell(value: Any, key: str) -> Markup:
    if value is None:
        return tag("td", "–")
    if isinstance(value, int):
        return tag("td", f"{value:,}", class_="quiet")
    if key.startswith("chance"):
        return tag("td", percent(value).removesuffix(" %"), class_="quiet")
    if key in _BARS:
        return tag("td", f"{100 * value:.1f}", class_="bar", style=f"--share:{100 * value:.1f}%")
    return tag("td", f"{100 * value:.1f}")


def _at(tree: Any, path: Sequence[str]) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _tile(figure: Figure) -> Markup:
    return tag(
        "div",
        tag("div", figure.name, class_="name"),
        tag("div", percent(figure.value), class_="value"),
        tag("div", tag("span", style=f"width:{100 * figure.value:.1f}%"), class_="meter"),
        tag("div", f"chance {percent(figure.chance)}", class_="chance"),
        tag("div", figure.about, class_="about"),
        class_="tile",
    )


def _of_group(rows: Mapping[str, Any], trained: bool) -> dict[str, Any]:
    return {code: row for code, row in rows.items() if row["trained_with_images"] is trained}


def _codes(rows: Mapping[str, Any]) -> str:
    return ", ".join(rows) if len(rows) <= 3 else f"mean of {len(rows)} languages"


def _span(rows: Mapping[str, Any], key: str) -> str:
    values = [row[key] for row in rows.values()]
    return f"{values[0]:,}" if min(values) == max(values) else f"{min(values):,} to {max(values):,}"

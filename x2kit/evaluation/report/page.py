"""Assemble the sections of a report into one self-contained HTML page. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import NamedTuple

from x2kit.evaluation.report.markup import Markup, join, tag

# A report is shared by mail, so it runs no script and fetches nothing; images are data URLs.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Section(NamedTuple):
    """A section of the page: anchor, heading, introduction, content."""

    anchor: str
    heading: str
    about: str | Markup
    content: Markup


def draw_page(title: str, description: str, facts: str, sections: Sequence[Section]) -> str:
    """Draw the whole page.

    Args:
        title: heading and title of the browser tab.
        description: of the run; may be empty.
        facts: one line below the description.
        sections: in order.
    """
    style = Markup((files(__package__) / "page.css").read_text(encoding="utf-8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", style),
    )
    header = tag(
        "header",
        tag("h1", title),
        tag("p", description, class_="lead") if description else None,
        tag("p", facts, class_="quiet"),
        tag(
            "nav",
            [tag("a", section.heading, href=f"#{section.anchor}") for section in sections],
            aria_label="Sections",
        ),
    )
    body = tag("body", header, tag("main", [_section(section) for section in sections]))
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def draw_facts(facts: Mapping[str, str | Markup | None]) -> Markup:
    """Draw names with their values; None values are omitted."""
    return tag(
        "dl",
        [join(tag("dt", name), tag("dd", value)) for name, value in facts.items() if value is not None],
    )


def folded(summary: str, text: str) -> Markup:
    """Draw a long text that opens on a click."""
    return tag("details", tag("summary", summary), tag("pre", text))


def _section(section: Section) -> Markup:
    return tag(
        "section",
        tag("h2", section.heading),
        tag("p", section.about, class_="note") if section.about else None,
        section.content,
        id=section.anchor,
    )

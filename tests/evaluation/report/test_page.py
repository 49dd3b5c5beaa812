"""The page around the sections."""

from __future__ import annotations

from html import unescape

from tests.evaluation.report.reading import Page
from x2kit.evaluation.report.markup import Markup, tag
from x2kit.evaluation.report.page import Section, draw_facts, draw_page, folded


def test_a_page_is_well_formed_and_its_links_lead_to_its_sections() -> None:
    sections = [
        Section("one", "First <part>", "how to read it", tag("p", "content")),
        Section("two", "Second", "", Markup("")),
    ]
    page = Page(draw_page("a & b", "", "20 steps", sections))
    assert page.open == []
    assert page.title == "a & b"
    assert page.links == ["#one", "#two"]
    assert {"one", "two"} <= page.ids


def test_a_page_fetches_nothing() -> None:
    text = draw_page("title", "what it is for", "", [])
    page = Page(text)
    assert page.sources == []
    assert not {"script", "link", "iframe"} & page.tags
    assert "url(" not in text
    assert "default-src 'none'" in unescape(text)


def test_a_page_follows_the_colours_and_the_width_of_the_reader() -> None:
    text = draw_page("title", "", "", [])
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_unknown_facts_are_omitted() -> None:
    assert draw_facts({"a": "1", "b": None}) == "<dl><dt>a</dt><dd>1</dd></dl>"


def test_long_texts_are_folded_and_escaped() -> None:
    assert folded("recipe", "a: <b>") == "<details><summary>recipe</summary><pre>a: &lt;b&gt;</pre></details>"

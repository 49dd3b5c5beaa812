"""HTML from Python."""

from __future__ import annotations

from x2kit.evaluation.report.markup import Markup, join, number, tag


def test_texts_and_attributes_are_escaped() -> None:
    made = tag("p", "<script>1 & 2</script>", title='"quoted"')
    assert made == '<p title="&quot;quoted&quot;">&lt;script&gt;1 &amp; 2&lt;/script&gt;</p>'


def test_markup_is_kept_at_any_depth() -> None:
    assert tag("ul", [tag("li", text) for text in ("a<", "b")]) == "<ul><li>a&lt;</li><li>b</li></ul>"
    assert join(Markup("<b>"), None, ["&", [Markup("<i>")]]) == "<b>&amp;<i>"


def test_attribute_names_lose_their_last_underscore_and_get_hyphens() -> None:
    made = tag("line", class_="grid", stroke_width=1.26, hidden=True, lang=None, open=False)
    assert made == '<line class="grid" stroke-width="1.3" hidden></line>'


def test_void_elements_have_no_end_tag() -> None:
    assert tag("img", src="data:,") == '<img src="data:,">'


def test_coordinates_have_at_most_one_decimal() -> None:
    assert [number(value) for value in (3.0, 3.14159, -0.25, 120)] == ["3", "3.1", "-0.2", "120"]

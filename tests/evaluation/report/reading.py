"""Parse a page like a browser and record what it would fetch."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"img", "br", "meta", "link"}


class Page(HTMLParser):
    """A parsed page.

    Attributes:
        open: elements that were not closed, or closed in a wrong order.
        sources: what its elements refer to, data addresses and links to itself left out.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.sources: list[str] = []
        self.title = ""
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if name == "href" and value:
                self.links.append(value)
            fetched = name in ("src", "href", "srcset", "data", "xlink:href")
            if fetched and value and not value.startswith(("data:image/png;base64,", "#")):
                self.sources.append(value)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "title":
            self.title += data
        self.text += data

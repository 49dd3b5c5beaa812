"""The files of the page: served with their type, without outside addresses, each tab with its labels."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from starlette.testclient import TestClient
from x2kit_demo.tasks import TASKS

FILES = {file.name: file.read_text(encoding="utf-8") for file in (files("x2kit_demo") / "page").iterdir()}
OWN_NAMES = {"http://www.w3.org/2000/svg"}  # the name of a format; nothing is fetched


class Elements(HTMLParser):
    """All start tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.labels = 0
        self.unlabelled: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        settings = dict(attributes)
        self.found.append((tag, settings))
        self.labels += tag == "label"
        named = any(t == "label" and s.get("for") and s["for"] == settings.get("id") for t, s in self.found)
        later = f'for="{settings.get("id")}"' in FILES["index.html"]
        if tag in ("input", "textarea", "select") and not (self.labels or named or later):
            self.unlabelled.append(settings.get("name") or settings.get("id"))

    def handle_endtag(self, tag: str) -> None:
        self.labels -= tag == "label"


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_file_names_an_outside_address(name: str) -> None:
    assert set(re.findall(r"(?:https?:)?//[\w.-]+\.[\w/.-]+", FILES[name])) <= OWN_NAMES


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/demo.css", "text/css"),
        ("/main.js", "text/javascript"),
        ("/icon.svg", "image/svg+xml"),
    ],
)
def test_files_are_served_with_their_type(client: TestClient, path: str, kind: str) -> None:
    assert client.get(path).headers["content-type"].startswith(kind)


def test_scripts_import_only_files_that_are_served(client: TestClient) -> None:
    for name, text in FILES.items():
        for imported in re.findall(r'from "(.+?)"', text):
            assert client.get(f"/{imported.removeprefix('./')}").status_code == 200, f"{name}: {imported}"


def test_no_text_is_parsed_as_html() -> None:
    parsing = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function")
    assert [name for name, text in FILES.items() if parsing.search(text)] == []


def test_the_page_has_no_inline_script_or_style() -> None:
    for tag, settings in Elements(FILES["index.html"]).found:
        assert not [name for name in settings if name.startswith("on") or name == "style"], tag
        assert tag != "style"
        assert tag != "script" or settings["src"]


def test_every_field_has_a_label() -> None:
    assert Elements(FILES["index.html"]).unlabelled == []


def test_every_tab_controls_a_panel_that_is_a_task_of_the_api() -> None:
    found = Elements(FILES["index.html"]).found
    tabs = {settings["aria-controls"] for _, settings in found if settings.get("role") == "tab"}
    panels = {settings["id"] for _, settings in found if settings.get("role") == "tabpanel"}
    assert tabs == panels == {"search", *TASKS}


def test_the_fields_of_each_form_are_those_of_its_request() -> None:
    for name, task in TASKS.items():
        form = FILES["index.html"].split(f'id="{name}" aria-labelledby')[1].split("</form>")[0]
        fields = set(re.findall(r' name="(\w+)"', form))
        assert fields <= set(task.model_fields), name

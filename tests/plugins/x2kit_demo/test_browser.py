"""The page in a real browser: every tab is filled and photographed, without network and without errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.docs.shell import small
from x2kit.cli import main

from .browser import Browser, find_chromium, open_page, serve
from .conftest import png

pytestmark = pytest.mark.slow
CAPTIONS = """\
evaluation:
  tasks:
    captions:
      class_path: Captioning
      init_args: {form: causal, prompt: "", clean: true, min_length: 2, max_length: 10, unique_ngrams: null}
"""
BOXES = "() => document.querySelectorAll('#boxes rect.halo').length"
PAINTED = """() => {
  const canvas = document.querySelector('#heat');
  return !canvas.hidden && canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean);
}"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a model with every part, trained for two steps, and an index of 12 scenes."""
    folder = tmp_path_factory.mktemp("demo")
    run, scenes = str(folder / "run"), folder / "scenes"
    (folder / "captions.yaml").write_text(CAPTIONS)
    train = ["train", "quickstart/questions", "--config", str(folder / "captions.yaml"), "--run-dir", run]
    assert main([*train, *small(train)]) == 0
    export = ["--records", "12", "--split", "test", "--languages", "en,ar,ja", "--image-size", "192"]
    assert main(["emoji", "--export", str(scenes), *export]) == 0
    index = str(folder / "index")
    assert main(["search", "index", str(scenes / "images"), "--model", run, "--index", index]) == 0
    with serve(run, "--index", index, "--examples", str(scenes / "records.jsonl")) as found:
        yield found


@pytest.mark.parametrize(("width", "scheme"), [(1180, "light"), (400, "dark")])
def test_every_tab_is_filled_and_photographed(address: str, tmp_path: Path, width: int, scheme: str) -> None:
    with open_page(address, width=width, scheme=scheme) as browser:
        page = browser.page
        browser.submit("search", text="モンキー")
        assert page.locator("#search .hits li").count() == 12
        page.locator("#search .hits button").first.click()
        page.locator("#boxes rect.halo").first.wait_for(state="attached")
        browser.photograph(tmp_path / "search.png")

        browser.choose(1)
        browser.submit("match", texts="a dog\nein Hund\nكلب")
        assert page.locator("#match .scores li").count() == 3
        browser.photograph(tmp_path / "match.png")

        browser.submit("locate", texts="a dog\nthe sun")
        assert page.evaluate(BOXES) == 2
        browser.photograph(tmp_path / "locate.png")

        browser.submit("explain", text="a red dog")
        assert page.evaluate(PAINTED)
        page.locator("#explain .words button").last.hover()
        assert page.locator('#explain .words button[aria-pressed="true"]').count() == 1
        browser.photograph(tmp_path / "explain.png")

        browser.submit("classify", labels="dog\ncat\nsun\nmoon")
        assert "4 labels: a guess has 25.0 %" in page.locator("#classify .result").inner_text()
        browser.photograph(tmp_path / "classify.png")

        browser.submit("answer", question="how many are there", answers="one\ntwo")
        assert page.locator("#answer .scores li").count() == 2
        browser.photograph(tmp_path / "answer.png")

        browser.submit("describe", count="2")
        assert page.locator("#describe .scores li").count() >= 1
        browser.photograph(tmp_path / "describe.png")

        assert page.evaluate(OVERFLOW) == 0
        assert browser.errors == []
        assert [url for url in browser.asked if not url.startswith(address)] == []
    for file in tmp_path.glob("*.png"):
        assert Image.open(file).width == width


def test_an_upload_is_shown_and_results_of_other_images_go(address: str) -> None:
    with open_page(address) as browser:
        browser.choose(0)
        browser.submit("match", texts="a dog")
        browser.page.set_input_files("#file", {"name": "mine.png", "mimeType": "image/png", "buffer": png()})
        browser.page.get_by_text("mine.png, 30 × 20").wait_for()
        assert browser.page.locator("#match .scores").count() == 0
        browser.submit("match", texts="a dog")
        assert browser.errors == []


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"<svg onload='alert(1)'/>", "of none of the formats"), (bytes(11 * 10**6), "more than the")],
)
def test_a_refused_upload_shows_the_message_and_keeps_the_image(
    address: str, content: bytes, said: str
) -> None:
    with open_page(address) as browser:
        browser.choose(0)
        before = browser.page.locator("#caption").inner_text()
        browser.page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": content})
        browser.page.locator("#picture-error", has_text=said).wait_for()
        assert browser.page.locator("#caption").inner_text() == before


def test_texts_of_a_request_are_shown_as_texts(address: str) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    with open_page(address) as browser:
        browser.choose(0)
        browser.submit("match", texts=hostile)
        assert hostile in browser.page.locator("#match .scores").inner_text()
        assert browser.errors == []


def test_tabs_are_reached_by_keyboard(address: str) -> None:
    with open_page(address) as browser:
        browser.page.locator("#tab-search").focus()
        seen = []
        for _ in range(7):
            browser.page.keyboard.press("ArrowRight")
            seen.append(focused(browser))
        names = ("match", "locate", "explain", "classify", "answer", "describe", "search")
        assert seen == [f"tab-{name}" for name in names]


def test_a_missing_browser_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(AssertionError, match="install it: apt-get install chromium"):
        find_chromium()


def focused(browser: Browser) -> Any:
    """Id of the element with the focus, once the page has handled the last key."""
    browser.page.wait_for_timeout(100)
    return browser.page.evaluate("() => document.activeElement.id")

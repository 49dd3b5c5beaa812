"""Chromium on the page of `x2kit demo`, without network; photographs for the docs.

    python -m tests.plugins.x2kit_demo.browser RUN INDEX EXAMPLES QUESTIONS_RUN docs/assets/demo

`RUN` is a run of quickstart/multilingual, `QUESTIONS_RUN` one of quickstart/questions.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
"""Root, as in containers, cannot use the sandbox; no name but this machine's is resolved."""
TIMEOUT = 60_000
"""Milliseconds."""


class Browser:
    """A page, the errors of its console and the addresses that it asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.asked: list[str] = []
        page.set_default_timeout(TIMEOUT)
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def choose(self, number: int) -> None:
        """Choose an example, from 0."""
        self.page.locator("#examples button").nth(number).click()
        self.page.locator('#examples button[aria-pressed="true"] >> nth=0').wait_for()
        self.page.wait_for_timeout(200)

    def submit(self, tab: str, **fields: str) -> None:
        """Open a tab, fill its fields, submit and wait for the result."""
        self.page.click(f"#tab-{tab}")
        for details in self.page.locator(f"#{tab} details:not([open]) summary").all():
            details.click()
        for name, value in fields.items():
            self.page.fill(f"#{tab} [name={name}]", value)
        self.page.click(f"#{tab} .go")
        self.page.locator(f"#{tab} .result > *").first.wait_for()
        self.page.locator('#panels[aria-busy="false"]').wait_for(state="attached")
        self.page.wait_for_load_state("networkidle")

    def photograph(self, file: Path) -> None:
        """Write what is seen as PNG."""
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(300)
        Image.open(io.BytesIO(self.page.screenshot())).save(file, optimize=True)


def find_chromium() -> str:
    """Return the browser's program. Raises AssertionError that says how to install it."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found, f"no browser ({', '.join(NAMES)}); install it: apt-get install chromium"
    return found


@contextmanager
def open_page(address: str, width: int = 1180, height: int = 760, scheme: str = "light") -> Iterator[Browser]:
    """Open the page in a window of this size, in a light or dark scheme."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        browser = Browser(context.new_page())
        browser.page.goto(address)
        browser.page.locator('[role=tab][aria-selected="true"]').wait_for()
        yield browser
        chromium.close()


@contextmanager
def serve(*arguments: str) -> Iterator[str]:
    """Run `x2kit demo` in a process of its own and yield its address."""
    command = [sys.executable, "-m", "x2kit", "demo", *arguments, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        said = ""
        while not (found := re.search(r"http://[\d.]+:\d+/", said)):
            line = server.stdout.readline()
            assert line, f"x2kit demo ended:\n{said}"
            said += line
        try:
            yield found[0]
        finally:
            server.terminate()


def photograph_docs(arguments: Sequence[str]) -> None:
    """Take the photographs of docs/how-to/demo.md."""
    run, index, examples, questions_run, folder = arguments
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    with serve(run, "--index", index, "--examples", examples) as address, open_page(address) as browser:
        browser.submit("search", text="雪雲, イヌ", rerank="24")
        browser.page.locator("#search .hits button").first.click()
        browser.page.locator("#boxes rect.halo").first.wait_for(state="attached")
        browser.page.locator("#search summary").click()
        browser.page.evaluate("() => scrollTo(0, 0)")
        browser.photograph(place / "search.png")
        browser.choose(1)
        browser.submit("locate", texts="person\nfunkelnde sterne\n手の甲")
        browser.photograph(place / "locate.png")
        browser.choose(9)
        browser.submit("explain", text="octopus")
        browser.photograph(place / "explain.png")
        browser.choose(2)
        browser.submit("classify", labels="shield\nant\noctopus\ncarrot")
        browser.photograph(place / "classify.png")
    with serve(questions_run, "--examples", examples) as address, open_page(address) as browser:
        browser.choose(1)
        browser.submit("answer", question="what is left of the sparkles?")
        browser.photograph(place / "ask.png")
    for file in place.glob("*.png"):
        shrink(file)


def shrink(file: Path) -> None:
    """Reduce a photograph to 256 colours, a third of its bytes."""
    image = Image.open(file).convert("RGB")
    image.quantize(256, kmeans=3, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    photograph_docs(sys.argv[1:])

"""Small artifacts in the real formats: what the report is made from, without a model having run."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evaluation.protocol import Protocol
from reporting.page import Sources, read_report
from reporting.web.rendering import render
from tests.reporting.artifacts import Made, make_sources, protocol

PATIENCE = 300_000
"""Milliseconds within which the browser must do a thing: a bound for a browser that hangs, not for one that is slow."""
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "</script><b>'&amp;{{ 7*7 }}")


@pytest.fixture(scope="session")
def protocol_of() -> Callable[..., Protocol]:
    """Protocols that differ from each other in the fields that are given."""
    return protocol


@pytest.fixture(scope="session")
def make_artifacts() -> Callable[..., Made]:
    """Writes artifacts with the classes, or the prompts, that are given."""
    return make_sources


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Artifacts with three classes."""
    return make_sources(tmp_path_factory.mktemp("made"), ("circle", "square", "diamond"))


@pytest.fixture(scope="session")
def page(made: Made) -> str:
    """The report of artifacts with three classes."""
    return render(read_report(made.sources, "Shapes", samples=30, examples=6, draw_megabytes=6))


@pytest.fixture(scope="session")
def hostile_names() -> tuple[str, ...]:
    """Class names that would run, or break the page, were they not escaped."""
    return HOSTILE


@pytest.fixture(scope="session")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a data set with such names."""
    hostile = make_sources(tmp_path_factory.mktemp("hostile"), HOSTILE)
    return render(read_report(hostile.sources, HOSTILE[0], samples=36, examples=6))


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Callable[[], Made]:
    """A copy of them that a test may spoil."""

    def copy() -> Made:
        shutil.copytree(made.root, tmp_path / "copy")
        moved = {
            name: tmp_path / "copy" / path.relative_to(made.root) for name, path in vars(made.sources).items()
        }
        return Made(tmp_path / "copy", Sources(**moved))

    return copy


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Headless Chromium; tests skip where there is none, and fail there if MQVAE_REQUIRE_CHROMIUM is set (as in CI).

    Not longer than a module: while Playwright is open, its event loop runs in this thread, in the way of other tests.
    """
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None and os.environ.get("MQVAE_REQUIRE_CHROMIUM"):
        pytest.fail("no chromium on this machine, and MQVAE_REQUIRE_CHROMIUM is set")
    if executable is None:
        pytest.skip("no chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as play:
        opened = play.chromium.launch(
            executable_path=executable, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def tab(browser, page, tmp_path_factory):
    """The page, open, for tests that leave it as it was."""
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page, encoding="utf-8")
    opened = browser.new_page(reduced_motion="reduce")
    opened.set_default_timeout(PATIENCE)
    opened.goto(path.as_uri())
    yield opened
    opened.close()


def note_request(asked: str, page: str, requests: list[str]) -> None:
    """Keep what goes beyond the page itself and the pictures in it."""
    if not asked.startswith(("data:", page)):
        requests.append(asked)


@pytest.fixture
def show(browser, tmp_path):
    """Opens a page in the browser; gives it with what it logs and asks of the network, as long as it is open.

    Nothing moves by itself: a test would point at where a thing was. `script` runs before the page's own.
    """
    opened = []

    def open_page(text, scheme="light", width=1280, script=""):
        (tmp_path / "index.html").write_text(text, encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
        )
        context.set_default_timeout(PATIENCE)
        if script:
            context.add_init_script(script)
        opened.append(context)
        tab, complaints, requests = context.new_page(), [], []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        url = (tmp_path / "index.html").as_uri()
        tab.on("request", lambda request: note_request(request.url, url, requests))
        tab.goto(url)
        # A function: a bare expression is evaluated again at each look, which the page's policy forbids at all but the first.
        tab.wait_for_function("() => document.querySelector('#which').textContent !== ''")
        return tab, complaints, requests

    yield open_page
    for context in opened:
        context.close()

"""A browser whose every request is on record, and a visit of every page and every link."""

import os
import re
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.waiting import slowness

OWN_HOSTS = re.compile(
    r"(https?://)?(update|content-autofill|accounts|optimizationguide-pa|clients\d*)\.google(apis)?\.com[:/]"
)
"""Chromium's own services, which it asks whatever the page is."""


@dataclass
class Record:
    """What a browser asked for.

    Attributes:
        asked: hosts of requests that pages made and that the browser let through.
        outside: first lines of what came to the browser's proxy, which it asks for everything that is not on loopback.
        dialogs: messages of dialogs that scripts opened.
    """

    asked: set[str] = field(default_factory=set)
    outside: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)


@contextmanager
def recorded_browser(ui: str) -> Iterator[tuple[Any, Record]]:
    """A page of Chromium, in which this machine alone can be reached, and the record.

    Args:
        ui: the address of the dashboard, the only one that the proxy is not asked for.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        assert not os.environ.get("MQVAE_REQUIRE_CHROMIUM"), "chromium is not installed"
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    record = Record()
    with proxy(record) as port, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--headless", "--no-sandbox", "--disable-gpu", f"--proxy-server=127.0.0.1:{port}",
                  f"--proxy-bypass-list=<-loopback>;{ui.removeprefix('http://')}"],
        )  # fmt: skip
        page = browser.new_page(viewport={"width": 1300, "height": 950})
        page.set_default_timeout(300_000)
        page.set_default_navigation_timeout(300_000)
        page.on(
            "requestfinished", lambda request: record.asked.update(re.findall(r"^\w+://([^/]+)", request.url))
        )
        page.on("dialog", lambda dialog: record.dialogs.append(dialog.message))
        yield page, record
        browser.close()


@contextmanager
def proxy(record: Record) -> Iterator[int]:
    """A proxy that writes down what it is asked for, and answers nothing; its port."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def work() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    try:
                        asked = connection.recv(1000).decode("latin-1").partition("\r\n")[0]
                    except OSError:
                        continue
                    if asked and not OWN_HOSTS.match(asked.partition(" ")[2]):
                        record.outside.append(asked)

        threading.Thread(target=work, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


ONE_OF_MANY = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+|(?<=/blocks/catalog/)[^/]+")
FOUND = "links => links.map(link => [link.getAttribute('href'), link.href])"
BUTTONS: tuple[dict[str, Any], ...] = ({}, {"button": "middle"}, {"modifiers": ["Control"]})


def links_of(page: Any, ui: str, starts: Sequence[str]) -> tuple[set[str], set[str]]:
    """Visit every page that a link leads to from the dashboard's first, one of a kind each, and click every link to elsewhere.

    Returns:
        Addresses elsewhere that were clicked, of which none was opened; and paths of pages that were visited.
    """
    waiting = ["/", *starts]
    kinds: set[str] = set()
    clicked: set[str] = set()
    visited: set[str] = set()
    while waiting:
        page.goto(ui + waiting.pop(0), wait_until="load")
        links = settled(page)
        visited.add(page.url.removeprefix(ui).partition("?")[0])
        for written, address in links:
            path = address.removeprefix(ui)
            kind = ONE_OF_MANY.sub("…", path.partition("?")[0])
            if path != address and kind not in kinds and not kind.startswith("/workspace/"):
                kinds.add(kind)
                waiting.append(path)
            elif address.startswith("http") and path == address and address not in clicked:
                clicked.add(address)
                click(page, written, address)
    return clicked, visited


def settled(page: Any) -> list[list[str]]:
    """A page's links, as written and as addresses, once the server has answered and two looks find the same."""
    from playwright.sync_api import TimeoutError as TookTooLongError

    page.locator("a[href]").first.wait_for(state="attached")
    with suppress(TookTooLongError):  # a page that asks again and again
        page.wait_for_load_state("networkidle", timeout=15_000 * slowness())
    links: list[list[str]] = []
    while (found := page.eval_on_selector_all("a[href]", FOUND)) != links:
        links = found
        page.wait_for_timeout(500)
    return links


def click(page: Any, written: str, address: str) -> None:
    """Click a link as its user does, with either button and with Ctrl; the page says that it was not opened, and stays."""
    before = page.url
    for options in BUTTONS:
        page.locator(f'a[href="{written}"]').first.click(**options)
        page.locator("#left-out").wait_for()
        assert address in page.inner_text("#left-out")
        page.locator("#left-out button").click()
    assert page.url == before and len(page.context.pages) == 1

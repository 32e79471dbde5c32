"""The page of a finished run, opened and used by keyboard and mouse: at tiny scale, or the page that MQVAE_REPORT names."""

import os
from pathlib import Path

import pytest

from reporting.web.rendering import MOST_BYTES
from tests.tiny import finished_repository
from tests.waiting import becomes, until

pytest.importorskip("dvc", reason="DVC is not installed")


@pytest.fixture
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page's HTML."""
    if named := os.environ.get("MQVAE_REPORT"):
        return Path(named).read_text(encoding="utf-8")
    page = finished_repository(tmp_path_factory) / "artifacts" / "report" / "index.html"
    return page.read_text(encoding="utf-8")


def pixels(tab, panel):
    """What a panel of the viewer shows."""
    canvas = f"document.getElementById('panel-{panel}')"
    size = f"{canvas}.width, {canvas}.height"
    return tab.evaluate(f"{canvas}.getContext('2d').getImageData(0, 0, {size}).data.join()")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_a_real_page_is_used_from_end_to_end_without_a_fault(text, show, scheme, width):
    assert len(text.encode()) < MOST_BYTES
    tab, complaints, asked = show(text, scheme=scheme, width=width)
    first, kept, made = pixels(tab, "input"), pixels(tab, "kept"), pixels(tab, "reconstruction")
    tab.locator("#share").focus()
    tab.keyboard.press("Home")
    until(lambda: pixels(tab, "kept") != kept and pixels(tab, "reconstruction") != made, 30)
    tab.locator("#reset").click()
    becomes((kept, made), lambda: (pixels(tab, "kept"), pixels(tab, "reconstruction")))
    tab.locator("#next").click()
    until(lambda: pixels(tab, "input") != first, 30)
    tab.keyboard.press("ArrowLeft")
    becomes(first, pixels, tab, "input")
    tab.locator("#wall button").nth(1).click()
    name = tab.locator("#chosen-name").text_content()
    assert tab.locator("#near img").count() == 4
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#chosen-name").text_content() != name
    tab.locator("#order").select_option("nearest")
    nearest = [
        float(words.split(" ")[0].replace(",", ""))
        for words in tab.locator(".pairs:not(.fits) .note").all_text_contents()
    ]
    assert nearest == sorted(nearest) and len(nearest) == 8
    tab.wait_for_function("() => document.querySelector('#code-text').textContent !== ''")
    code = tab.locator("#code-text").text_content()
    tab.locator("#scatter").focus()
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#code-text").text_content() != code
    before = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    for _ in range(3 if scheme == "light" else 1):
        tab.locator("#theme").click()
        if tab.evaluate("getComputedStyle(document.body).backgroundColor") != before:
            break
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert (complaints, asked) == ([], [])

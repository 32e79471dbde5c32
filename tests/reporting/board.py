"""The part of the page that draws, as tests press its buttons and read its board."""

from typing import Any

WATCHED = """() => {
    const drawing = document.getElementById("drawing");
    window.drawn = false;
    const look = () => { window.drawn = drawing.ariaBusy === "false"; };
    new MutationObserver(look).observe(drawing, { attributeFilter: ["aria-busy"] }); }"""
MARKED = "[...document.querySelectorAll('#board button')].flatMap((one, i) => one.ariaPressed === 'true' ? [i] : [])"


def cells_of(tab: Any) -> dict[int, int]:
    """Cell → code on the board."""
    texts = tab.locator("#board button").all_text_contents()
    return {cell: int(text) for cell, text in enumerate(texts) if text}


def marked_on(tab: Any) -> set[int]:
    """The cells that are marked."""
    return set(tab.evaluate(MARKED))


def drawn(tab: Any, button: str = "#draw-go") -> dict[int, int]:
    """Press a button, and wait until the page has begun and is done: what is on the board then."""
    tab.evaluate(WATCHED)
    tab.locator(button).click()
    tab.wait_for_function("() => window.drawn")
    assert not tab.locator("#draw-status").text_content().startswith("This browser could not")
    return cells_of(tab)


def picture(tab: Any) -> str:
    """Its pixels."""
    canvas = "document.getElementById('draw-picture')"
    found: str = tab.evaluate(f"{canvas}.getContext('2d').getImageData(0, 0, 32, 32).data.join()")
    return found

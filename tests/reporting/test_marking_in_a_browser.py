"""Marking cells of the board, and drawing them: what a press does never depends on how soon the next event comes.

Events are sent in one go, without a pause in which a timer or a frame could come: what a browser that is busy does now and then,
it does here every time.
"""

import pytest

from tests.reporting.board import MARKED, WATCHED, cells_of, drawn, marked_on
from tests.reporting.tiny_models import GRID, KEPT

SENT = (
    """([events]) => {
    const cells = document.querySelectorAll("#board button"), outside = document.getElementById("draw-title");
    const places = { board: document.getElementById("board"), outside };
    const send = ([kind, where, more]) => (places[where] ?? cells[where]).dispatchEvent(new PointerEvent(kind, {
        bubbles: kind !== "pointerleave", pointerType: "mouse", pointerId: 1, button: 0, buttons: kind === "pointerover" ? 1 : 0,
        detail: kind === "click" ? 1 : 0, ...more }));
    for (const kind of ["pointerup", "pointerdown", "pointerup"]) send([kind, "outside", {}]);
    document.getElementById("mark-none").click();
    events.forEach(send);
    return """
    + MARKED
    + "; }"
)
KEY = {"detail": 0, "pointerType": "", "pointerId": -1}
TOUCH, PEN = {"pointerType": "touch", "pointerId": 2}, {"pointerType": "pen", "pointerId": 3}


def press(cell, **more):
    """A press and a release within a cell, and the click that browsers make of them."""
    return [(kind, cell, more) for kind in ("pointerdown", "pointerup", "click")]


def over(*cells, **more):
    """The pointer comes into cells, one after the other."""
    return [("pointerover", cell, more) for cell in cells]


DOWN, UP, OUT = ("pointerdown", 16, {}), ("pointerup", "board", {}), ("pointerup", "outside", {})
CASES = {
    "a key right after a click": ([*press(20), ("click", 28, KEY)], {20, 28}),
    "a key on the cell that was clicked": ([*press(20), ("click", 20, KEY)], set()),
    "a key while the button is pressed": ([("pointerdown", 20, {}), ("click", 28, KEY)], {20, 28}),
    "a finger right after a click": ([*press(20), *press(28, **TOUCH)], {20, 28}),
    "a finger on the cell that was clicked": ([*press(20), *press(20, **TOUCH)], set()),
    "a pen right after a click": ([*press(20), *press(28, **PEN)], {20, 28}),
    "a screen reader's click, without a press": ([*press(20), ("click", 28, {})], {20, 28}),
    "the mouse right after a finger": ([*press(28, **TOUCH), *press(20)], {20, 28}),
    "two clicks": ([*press(20), *press(20, detail=2)], set()),
    "a drag": ([DOWN, *over(17, 18), UP], {16, 17, 18}),
    "a drag over marked cells": ([DOWN, *over(17, 18), UP, DOWN, *over(17), UP], {18}),
    "a drag back to where it began": ([DOWN, *over(17, 16), ("pointerup", 16, {}), ("click", 16, {})], {16, 17}),
    "a key right after a drag": ([DOWN, *over(17), UP, ("click", 30, KEY)], {16, 17, 30}),
    "a drag that ends outside the board": ([DOWN, *over(17), OUT, *over(18)], {16, 17}),
    "a drag that ends outside the window": ([DOWN, *over(17), *over(19, 20, buttons=0), *over(21)], {16, 17}),
    "a drag that ends with another button pressed": ([DOWN, *over(17), *over(18, buttons=2)], {16, 17}),
    "a drag that the system takes away": ([DOWN, ("pointercancel", "board", {}), *over(17)], {16}),
    "another pointer during a drag": ([DOWN, *over(20, **TOUCH), *over(17)], {16, 17}),
    "another button": ([("pointerdown", 16, {"button": 2}), *over(17, buttons=2)], set()),
    "a mouse faster than the frames": ([DOWN, *over(21)], {16, 17, 18, 19, 20, 21}),
    "a mouse faster than the frames, aslant": ([("pointerdown", 0, {}), *over(2 * GRID + 2)], {0, GRID + 1, 2 * GRID + 2}),
    "a mouse that leaves the board and comes back": ([DOWN, ("pointerleave", "board", {}), *over(21)], {16, 21}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_cells_are_marked_whatever_comes_at_once(tab, name):
    events, expected = CASES[name]
    assert set(tab.evaluate(SENT, [events])) == expected


def test_a_real_mouse_and_a_real_key_mark_without_a_pause(page, show):
    tab, complaints, _ = show(page)
    tab.locator("#board button").nth(20).click()
    tab.keyboard.press("Space")
    assert marked_on(tab) == set(), "the same cell again"
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    assert marked_on(tab) == {21}
    tab.locator("#board button").nth(30).click(button="right")
    assert marked_on(tab) == {21} and complaints == []


CHANGED = """() => {
    const find = (id) => document.getElementById(id);
    find("draw-go").click();
    find("draw-seed").value = 8;
    find("draw-index").value = 1;
    find("draw-class").selectedIndex = 2;
    return [...document.querySelectorAll(".tools button, .go button")].every((button) => button.disabled); }"""


def test_a_picture_is_of_what_was_asked_when_it_began(page, show):
    tab, complaints, _ = show(page)
    tab.locator("#draw-class").select_option("square")
    expected = drawn(tab)
    command = tab.locator("#draw-shell").text_content()
    tab.reload()
    tab.locator("#draw-class").select_option("square")
    tab.evaluate(WATCHED)
    assert tab.evaluate(CHANGED), "nothing else can be begun, or marked, meanwhile"
    tab.wait_for_function("() => window.drawn")
    assert cells_of(tab) == expected
    assert tab.locator("#draw-status").text_content() == f"Number 0 of seed 0: {KEPT} codes."
    assert tab.locator("#draw-shell").text_content() == command
    assert drawn(tab) != expected and "sample.seed=8" in tab.locator("#draw-shell").text_content()
    assert complaints == []


HELD = (
    "HTMLImageElement.prototype.decode = () => new Promise((done) => { (window.held ??= []).push(done); });"
)


def test_a_code_that_is_chosen_before_the_pictures_are_decoded_stays_chosen(page, show):
    tab, complaints, _ = show(page, script=HELD)
    tab.locator("#scatter").focus()
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
    words = tab.locator("#code-text").text_content()
    assert words.startswith("code ")
    tab.evaluate("async () => { held.forEach((done) => done()); await new Promise(setTimeout); }")
    assert tab.locator("#code-text").text_content() == words
    assert tab.locator(".dot.chosen").count() == 1
    tab.keyboard.press("ArrowLeft")
    assert tab.locator("#code-text").text_content() != words and complaints == []

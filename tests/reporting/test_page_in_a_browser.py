"""Laws of the report in a real browser, by keyboard and mouse: it works, it is quiet, and it stays by itself.

What waits for a picture to be decoded (the viewer) or for the next frame (the mouse that moves) is waited for; what a key or a
click does is there when it is done, and is read at once.
"""

import pytest

from reporting.page import read_report
from reporting.web.rendering import render
from tests.waiting import becomes, until


def test_hostile_names_neither_run_nor_break_the_page(hostile_page, show):
    tab, complaints, asked = show(hostile_page)
    assert complaints == []
    assert asked == []
    tab.locator("#filters button").nth(2).click()
    assert tab.locator("#wall li:visible").count() == 12


def test_many_prompts_are_searched_by_their_words(make_artifacts, tmp_path, show):
    prompts = tuple(f"a picture of <b>{number}</b>" for number in range(18))
    prompted = make_artifacts(tmp_path / "made", (), prompts)
    tab, complaints, _ = show(render(read_report(prompted.sources, "Text", samples=36, examples=2)))
    tab.locator("#search").press_sequentially("<B>7")
    assert tab.locator("#wall li:visible").count() == 2
    assert tab.locator("#chosen-name").text_content().startswith("a picture of <b>7</b>")
    tab.locator("#search").fill("nothing of the kind")
    assert tab.locator("#wall li:visible").count() == 0
    assert tab.locator("#no-match").is_visible()
    assert tab.locator("#detail").is_hidden()
    assert complaints == []


def test_a_browser_finds_no_fault_and_asks_the_network_nothing(page, show):
    tab, complaints, asked = show(page)
    assert complaints == []
    assert asked == []
    assert tab.evaluate("document.querySelector('#panel-importance').width") == 32


def which(tab):
    """The number of the example that the viewer shows, of how many."""
    return tab.locator("#which").text_content().partition(" ·")[0]


def test_arrow_keys_and_buttons_move_the_viewer(page, show):
    tab, _, _ = show(page)
    becomes("1 / 6", which, tab)
    tab.keyboard.press("ArrowRight")
    becomes("2 / 6", which, tab)
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowLeft")
    becomes("6 / 6", which, tab)
    tab.locator("#next").click()
    becomes("1 / 6", which, tab)
    tab.locator("#thumbs button").nth(3).press("Enter")
    becomes("4 / 6", which, tab)


def kept_pixels(tab):
    """Pixels of the kept panel that are as in the input."""
    return tab.evaluate(
        """() => {
        const pixels = (id) => document.getElementById(id).getContext("2d").getImageData(0, 0, 32, 32).data;
        const [a, b] = [pixels("panel-input"), pixels("panel-kept")];
        const pixel = (data, i) => data.slice(i, i + 3).join();
        return [...Array(a.length / 4).keys()].filter((i) => pixel(a, 4 * i) === pixel(b, 4 * i)).length; }"""
    )


def reconstruction_is(tab, count):
    """Whether the last panel holds, pixel by pixel, what is stored for so many cells of the first example."""
    return tab.evaluate(
        """async (count) => {
        const made = data.examples[0].made.find((one) => one.count === count);
        const image = Object.assign(new Image(), { src: made.image });
        await image.decode();
        const canvas = Object.assign(document.createElement("canvas"), { width: 32, height: 32 });
        canvas.getContext("2d").drawImage(image, 0, 0);
        const pixels = (of) => of.getContext("2d").getImageData(0, 0, 32, 32).data.join();
        return pixels(canvas) === pixels(document.getElementById("panel-reconstruction")); }""",
        count,
    )


def test_the_slider_shows_as_many_cells_as_it_says(page, show):
    tab, complaints, _ = show(page)
    becomes(32 * 16, kept_pixels, tab)
    tab.locator("#share").fill("64")
    becomes(64 * 16, kept_pixels, tab)
    tab.locator("#share").fill("5")
    becomes(5 * 16, kept_pixels, tab)
    assert "5 of 64" in tab.locator("#about-kept").text_content()
    tab.locator("#reset").click()
    becomes(32 * 16, kept_pixels, tab)
    assert complaints == []


def test_the_slider_moves_by_keyboard_and_leaves_the_image(page, show):
    tab, _, _ = show(page)
    tab.locator("#share").focus()
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
    becomes(35 * 16, kept_pixels, tab)
    assert which(tab) == "1 / 6"
    assert "mask ratio 45 %" in tab.locator("#share-text").text_content()
    tab.keyboard.press("End")
    becomes(64 * 16, kept_pixels, tab)


def test_the_slider_is_dragged_by_mouse(page, show):
    tab, _, _ = show(page)
    box = tab.locator("#share").bounding_box()
    middle = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + box["width"] / 2, middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 4, middle, steps=5)
    tab.mouse.up()
    becomes(16, kept_pixels, tab)


def test_the_reconstruction_is_the_stored_one_that_is_nearest_and_it_says_which(page, show):
    tab, _, _ = show(page)
    source = tab.locator("#source")
    becomes(True, reconstruction_is, tab, 32)
    assert source.text_content() == "reconstruction from 32 cells, as trained"
    tab.locator("#share").fill("48")
    becomes(True, reconstruction_is, tab, 48)
    assert not reconstruction_is(tab, 32)
    assert source.text_content() == "reconstruction from 48 cells"
    tab.locator("#share").fill("10")
    becomes(True, reconstruction_is, tab, 16)
    assert source.text_content() == "reconstruction from 16 cells, the nearest that is stored"


def test_a_cell_is_read_out_to_mouse_and_keyboard(page, show):
    tab, _, _ = show(page)
    words = tab.locator("#cell-text")
    box = tab.locator("#panel-kept").bounding_box()
    tab.mouse.move(box["x"] + 1, box["y"] + 1)
    until(lambda: words.text_content().startswith("row 1, column 1: importance "), 30)
    assert tab.locator("#panels .cell:visible").count() == 4
    tab.mouse.move(0, 0)
    until(lambda: "row" not in words.text_content(), 30)
    tab.keyboard.press("Shift+ArrowDown")
    assert words.text_content().startswith("row 6, column 5: importance ")
    assert which(tab) == "1 / 6"


def test_a_filter_leaves_one_class_on_the_wall(page, show):
    tab, _, _ = show(page)
    assert tab.locator("#wall li:visible").count() == 30
    tab.get_by_role("button", name="square", exact=True).click()
    assert tab.locator("#wall li:visible").count() == 10
    assert tab.locator("#wall li:visible").first.get_attribute("data-label") == "square"
    tab.get_by_role("button", name="all", exact=True).click()
    assert tab.locator("#wall li:visible").count() == 30


def test_charts_tell_values_to_mouse_and_keyboard(page, show):
    tab, _, _ = show(page)
    svg, readout = tab.locator(".chart").first, tab.locator(".readout").first
    svg.hover()
    until(lambda: readout.text_content().startswith("step "), 30)
    tab.mouse.move(0, 0)
    until(lambda: not readout.text_content().startswith("step "), 30)
    svg.focus()
    tab.keyboard.press("ArrowLeft")
    assert readout.text_content().startswith("step 1,190")
    assert which(tab) == "1 / 6"


def test_every_control_can_be_reached_by_tab_and_has_a_name(page, show):
    tab, _, _ = show(page)
    named = "getAttribute('aria-label') || node.textContent.trim() || node.labels?.length || node.querySelector('img')?.alt"
    controls = tab.locator("button, input, select, [tabindex='0']")
    nameless = controls.evaluate_all(f"(nodes) => nodes.filter((node) => !(node.{named})).length")
    assert nameless == 0
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"


def test_dark_and_light_differ_and_a_narrow_page_does_not_scroll_sideways(page, show):
    light, _, _ = show(page)
    dark, _, _ = show(page, scheme="dark")
    brightness = (
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b)"
    )
    assert light.evaluate(brightness) > 600
    assert dark.evaluate(brightness) < 150
    assert light.screenshot() != dark.screenshot()
    narrow, complaints, _ = show(page, width=360)
    assert narrow.evaluate("document.documentElement.scrollWidth") <= 360
    assert complaints == []


def near(tab):
    """Names of the training images beside the chosen sample."""
    return tab.locator("#near img").evaluate_all("(images) => images.map((image) => image.alt)")


def test_a_sample_is_chosen_by_mouse_and_by_keyboard_and_its_neighbours_are_shown(page, show):
    tab, complaints, _ = show(page)
    name = tab.locator("#chosen-name")
    assert name.text_content() == "circle, sample 0"
    first = near(tab)
    assert len(first) == 4 and all(alt.startswith("training image ") for alt in first)
    tab.locator("#wall li").nth(4).click()
    assert name.text_content() == "circle, sample 12"
    assert near(tab) != first
    tab.keyboard.press("ArrowRight")
    assert name.text_content() == "circle, sample 15"
    tab.keyboard.press("Home")
    assert name.text_content() == "circle, sample 0"
    assert near(tab) == first
    tab.keyboard.press("ArrowDown")
    columns = tab.locator("#wall li").evaluate_all(
        "(items) => items.filter((item) => item.offsetTop === items[0].offsetTop).length"
    )
    assert tab.evaluate("document.activeElement.closest('li').dataset.row") == tab.locator("#wall li").nth(
        columns
    ).get_attribute("data-row")
    assert which(tab) == "1 / 6"
    assert complaints == []


def test_a_copy_stands_first_in_order_of_nearness_with_its_original_beside_it(page, show):
    tab, _, _ = show(page)
    tab.locator("#order").select_option("nearest")
    assert tab.locator("#wall li").first.get_attribute("data-row") == "5"
    assert tab.locator("#chosen-name").text_content() == "diamond, sample 5"
    assert near(tab)[0].startswith("training image 0000007")
    assert tab.locator("#near span").first.text_content().startswith("0 ·")
    pair = tab.locator(".pairs:not(.fits) li").first.locator("img")
    assert pair.first.get_attribute("src") == tab.locator("#chosen-image").get_attribute("src")
    assert pair.last.get_attribute("src") == tab.locator("#near img").first.get_attribute("src")
    tab.locator("#order").select_option("given")
    assert tab.locator("#wall li").first.get_attribute("data-row") == "0"


def test_the_histogram_marks_the_chosen_sample(page, show):
    tab, _, _ = show(page)
    tab.locator("#wall li[data-row='5']").click()
    assert tab.locator("#here-text").text_content() == "the chosen sample, 0"
    assert float(tab.locator("#here").get_attribute("x1")) == 12


def test_a_sample_that_was_not_scored_says_so(made, show):
    tab, _, _ = show(render(read_report(made.sources, "Shapes", samples=36, examples=6)))
    tab.locator("#wall li[data-row='35']").click()
    assert near(tab) == []
    assert "not among those that were scored" in tab.locator("#near-note").text_content()


def test_a_filter_that_hides_the_chosen_sample_chooses_another(page, show):
    tab, _, _ = show(page)
    tab.get_by_role("button", name="diamond", exact=True).press("Enter")
    assert tab.locator("#chosen-name").text_content().startswith("diamond")
    assert tab.locator("#wall li:visible [tabindex='0']").count() == 1


def test_a_code_shows_the_cells_that_were_written_as_it(page, show):
    tab, complaints, _ = show(page)
    tab.wait_for_function("() => document.querySelector('#code-text').textContent !== ''")
    tab.locator(".dot[data-code='3']").hover()
    words = tab.locator("#code-text")
    until(lambda: words.text_content().startswith("code 3, "), 30)
    written = tab.evaluate(
        "data.examples.flatMap((example) => example.codes).filter((code) => code === 3).length"
    )
    shown = tab.locator("#patches canvas").count()
    assert shown == min(28, written) > 0
    assert f"of {written} cells" in words.text_content() or f": {written} cell" in words.text_content()
    before = words.text_content()
    tab.locator("#scatter").focus()
    tab.keyboard.press("ArrowRight")
    assert words.text_content() != before
    assert complaints == []


BRIGHTNESS = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number).reduce((a, b) => a + b)"


def test_the_theme_button_goes_from_the_systems_choice_to_light_to_dark_and_is_remembered(page, show):
    tab, complaints, _ = show(page, scheme="dark")
    button = tab.locator("#theme")
    assert tab.evaluate(BRIGHTNESS) < 150
    button.focus()
    tab.keyboard.press("Enter")
    assert tab.locator("#theme-name").text_content() == "light"
    assert tab.evaluate(BRIGHTNESS) > 600
    tab.reload()
    assert tab.locator("#theme-name").text_content() == "light"
    assert tab.evaluate(BRIGHTNESS) > 600
    button.click()
    assert tab.evaluate(BRIGHTNESS) < 150
    button.click()
    assert tab.locator("#theme-name").text_content() == "auto"
    assert complaints == []


def test_what_the_keyboard_reaches_is_framed_and_every_picture_has_words(page, show):
    tab, _, _ = show(page)
    for _ in range(12):
        tab.keyboard.press("Tab")
        width = tab.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)")
        style = tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert width >= 2 and style == "solid"
    wordless = "(nodes) => nodes.filter((node) => !(node.alt || node.getAttribute('aria-label'))).length"
    assert tab.locator("main img:not(.thumbs img), main canvas[role], main svg").evaluate_all(wordless) == 0


@pytest.mark.parametrize("width", [360, 390, 700, 1280])
def test_a_page_of_any_width_does_not_scroll_sideways(page, show, width):
    tab, complaints, _ = show(page, width=width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []


def test_a_page_used_from_end_to_end_asks_the_network_nothing(page, show):
    tab, complaints, asked = show(page)
    for key in ("ArrowRight", "Shift+ArrowUp", "ArrowLeft"):
        tab.keyboard.press(key)
    for summary in tab.locator("details > summary").all():
        summary.click()
    for link in tab.locator("nav a").all():
        link.click()
    tab.locator("#wall button").last.click()
    tab.locator(".chart").first.hover()
    assert (complaints, asked) == ([], [])

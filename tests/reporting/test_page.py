"""Laws of the report: it is whole, it is one file, nothing in the data can run, and a browser agrees."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from reporting import gallery
from reporting.page import MOST_BYTES, read_report, render
from stages.report import Inputs, ReportSettings, run
from workspace.errors import UserError
from workspace.manifest import read_manifest, write_json
from workspace.runs import RunFolder
from workspace.settings import Compute

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "</script><b>'&amp;{{ 7*7 }}")
COMPUTE = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")


@pytest.fixture(scope="module")
def page(made):
    return render(read_report(made.sources, "Shapes", samples=30, examples=6))


@pytest.fixture(scope="module")
def hostile_page(make_artifacts, tmp_path_factory):
    hostile = make_artifacts(tmp_path_factory.mktemp("hostile"), HOSTILE)
    return render(read_report(hostile.sources, HOSTILE[0], samples=36, examples=6))


@pytest.fixture
def show(browser, tmp_path):
    """Opens a page in the browser; gives it with what it logged and asked of the network."""
    opened = []

    def open_page(text, scheme="light", width=1280):
        (tmp_path / "index.html").write_text(text, encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        opened.append(context)
        tab, complaints, requests = context.new_page(), [], []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto((tmp_path / "index.html").as_uri())
        tab.wait_for_function("document.querySelector('#which').textContent !== ''")
        asked = [url for url in requests if not url.startswith(("data:", (tmp_path / "index.html").as_uri()))]
        return tab, complaints, asked

    yield open_page
    for context in opened:
        context.close()


def test_equal_artifacts_give_an_equal_page(made, page):
    assert render(read_report(made.sources, "Shapes", samples=30, examples=6)) == page


def test_the_summary_names_both_models_and_their_scores(page):
    shown = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.split("<main")[0]))
    for words in ("shapes", "10,000", "32 × 32", "32 of 64", "50 %", "128", "0.90 M", "0.85 M", "23.24 dB"):
        assert words in shown
    for words in (
        "proxy_rfd 4.318",
        "proxy_fd 21.46",
        "proxy_accuracy 75.3 %",
        "images/s 302",
        "images/s 172",
    ):
        assert words in shown


def test_every_score_stands_beside_its_protocol(page):
    for name in ("psnr", "proxy_rfd", "mask_auc_smooth"):
        assert f"how {name} is estimated" in page
    assert "900 images against 900 real ones (val)" in page
    assert "9f2c" * 16 in page
    assert "proxy 5a1b" in page


def test_the_page_points_to_nothing_outside_itself(page):
    assert not re.search(r"""(src|href|action|data|poster)\s*=\s*["'](?!data:|#)""", page)
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'" in page
    assert len(page.encode()) < MOST_BYTES


def test_samples_are_shared_out_over_the_classes(made):
    labels = [sample.label for sample in read_report(made.sources, "x", samples=9, examples=1).samples]
    assert {label: labels.count(label) for label in labels} == {"circle": 3, "square": 3, "diamond": 3}


def test_names_from_the_data_are_text_and_nothing_else(hostile_page):
    for text in HOSTILE:
        assert text not in hostile_page
    assert hostile_page.count("<script") == 2
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in hostile_page
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', hostile_page, re.DOTALL)
    assert {example["label"] for example in json.loads(data[1])["examples"]} == set(HOSTILE)


def test_hostile_names_neither_run_nor_break_the_page(hostile_page, show):
    tab, complaints, asked = show(hostile_page)
    assert complaints == []
    assert asked == []
    tab.locator("#filters button").nth(2).click()
    assert tab.locator("#wall li:visible").count() == 12


def test_a_model_without_classes_has_no_filter(make_artifacts, tmp_path):
    plain = make_artifacts(tmp_path, ())
    text = render(read_report(plain.sources, "Faces", samples=12, examples=2))
    assert 'id="filters"' not in text
    assert "from nothing but chance" in text
    assert text.count("<li data-label") == 12


def test_many_prompts_become_a_menu(make_artifacts, tmp_path, show):
    prompts = tuple(f"a picture of <b>{number}</b>" for number in range(18))
    prompted = make_artifacts(tmp_path / "made", (), prompts)
    tab, complaints, _ = show(render(read_report(prompted.sources, "Text", samples=36, examples=2)))
    tab.locator("#filter-select").select_option(index=3)
    assert tab.locator("#wall li:visible").count() == 2
    assert complaints == []


def test_curves_may_be_absent(copied):
    made = copied()
    for path in made.sources.numbers.rglob("*.tsv"):
        path.unlink()
    assert "No training stage left curves here" in render(read_report(made.sources, "x", 4, 2))


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("metrics/evaluate/metrics.json", "metrics.json does not exist: run `dvc repro evaluate`"),
        ("metrics/reconstruct/protocol.json", "protocol.json does not exist: run `dvc repro reconstruct`"),
        ("artifacts/samples/manifest.json", "run `dvc repro sample`"),
        ("artifacts/mqvae/model.safetensors", "run `dvc repro train_mqvae`"),
        ("artifacts/reconstructions/examples/v1.input.png", "run `dvc repro reconstruct`"),
        ("dvc.yaml", "dvc.yaml does not exist"),
    ],
)
def test_a_missing_piece_is_told_with_the_command_that_makes_it(copied, gone, told):
    made = copied()
    (made.root / gone).unlink()
    with pytest.raises(UserError, match=re.escape(told)):
        read_report(made.sources, "x", 4, 2)


def test_a_page_that_grows_too_large_is_refused(made, monkeypatch):
    monkeypatch.setattr("reporting.page.MOST_BYTES", 1000)
    with pytest.raises(UserError, match="lower report.samples or report.examples"):
        render(read_report(made.sources, "x", 4, 2))


def test_the_stage_writes_one_page_and_what_it_came_from(made, tmp_path):
    folder = RunFolder(tmp_path)
    folder.out.mkdir()
    settings = ReportSettings(title="Shapes", samples=6, examples=2)
    run(settings, COMPUTE, Inputs(**vars(made.sources)), folder)
    manifest = read_manifest(folder.out, "report")
    assert list(manifest.files) == ["index.html"]
    assert set(manifest.made_from) == {"shards", "reconstructions", "samples", "mqvae", "stackformer"}


def test_a_browser_finds_no_fault_and_asks_the_network_nothing(page, show):
    tab, complaints, asked = show(page)
    assert complaints == []
    assert asked == []
    assert tab.evaluate("document.querySelector('#panel-importance').width") == 32


def test_arrow_keys_and_buttons_move_the_viewer(page, show):
    tab, _, _ = show(page)
    which = tab.locator("#which")
    assert which.text_content().startswith("1 / 6")
    tab.keyboard.press("ArrowRight")
    assert which.text_content().startswith("2 / 6")
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowLeft")
    assert which.text_content().startswith("6 / 6")
    tab.locator("#next").click()
    assert which.text_content().startswith("1 / 6")
    tab.locator("#thumbs button").nth(3).press("Enter")
    assert which.text_content().startswith("4 / 6")


def kept_pixels(tab):
    """Pixels of the kept panel that are as in the input."""
    return tab.evaluate(
        """() => {
        const pixels = (id) => document.getElementById(id).getContext("2d").getImageData(0, 0, 32, 32).data;
        const [a, b] = [pixels("panel-input"), pixels("panel-kept")];
        const pixel = (data, i) => data.slice(i, i + 3).join();
        return [...Array(a.length / 4).keys()].filter((i) => pixel(a, 4 * i) === pixel(b, 4 * i)).length; }"""
    )


def test_the_slider_shows_as_many_cells_as_it_says(page, show):
    tab, _, _ = show(page)
    assert kept_pixels(tab) == 32 * 16
    tab.locator("#share").fill("64")
    assert kept_pixels(tab) == 64 * 16
    tab.locator("#share").fill("5")
    assert kept_pixels(tab) == 5 * 16
    assert "5 of 64" in tab.locator("#about-kept").text_content()
    tab.locator("#reset").click()
    assert kept_pixels(tab) == 32 * 16


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
    assert readout.text_content().startswith("step ")
    tab.mouse.move(0, 0)
    assert not readout.text_content().startswith("step ")
    svg.focus()
    tab.keyboard.press("ArrowLeft")
    assert readout.text_content().startswith("step 1,190")
    assert tab.locator("#which").text_content().startswith("1 / 6")


def test_every_control_can_be_reached_by_tab_and_has_a_name(page, show):
    tab, _, _ = show(page)
    nameless = tab.evaluate(
        """() => [...document.querySelectorAll("button, input, select, [tabindex='0']")].filter((node) =>
        !(node.getAttribute("aria-label") || node.textContent.trim() || node.labels?.length)).length"""
    )
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


def test_small_images_keep_every_pixel_and_large_ones_stay_small():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    small = gallery.data_uri(Image.fromarray(noise[:64, :64]))
    assert small.startswith("data:image/png;base64,")
    decoded = Image.open(io.BytesIO(base64.b64decode(small.split(",")[1])))
    np.testing.assert_array_equal(np.asarray(decoded), noise[:64, :64])
    large = gallery.data_uri(Image.fromarray(noise))
    assert large.startswith("data:image/jpeg;base64,")
    assert len(large) < noise.size


def test_numbers_that_are_none_are_named(copied):
    made = copied()
    write_json(made.sources.numbers / "evaluate" / "metrics.json", {"proxy_fd": "low"})
    with pytest.raises(UserError, match="proxy_fd is 'low', expected a number"):
        read_report(made.sources, "x", 4, 2)

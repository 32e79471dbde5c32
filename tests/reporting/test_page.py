"""Laws of the report: it is whole, it is one file, and nothing in the data can run."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from evaluation.neighbours import Neighbours
from reporting import gallery
from reporting.codes import read_colours
from reporting.copies import histogram
from reporting.numbers import by_meaning
from reporting.page import read_report
from reporting.web.rendering import MOST_BYTES, render
from settings.report import ReportSettings
from shards.images import ImageShards
from stages.report import run
from workspace.errors import UserError
from workspace.exact.manifest import read_json, read_manifest, write_json, write_manifest
from workspace.runs import RunFolder
from workspace.settings import Compute

COMPUTE = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")


def test_equal_artifacts_give_an_equal_page(made, page):
    assert render(read_report(made.sources, "Shapes", samples=30, examples=6, draw_megabytes=6)) == page


def test_the_summary_names_both_models_and_their_scores(page):
    shown = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.split("<main")[0]))
    for words in ("shapes", "48", "32 × 32", "32 of 64", "50 %", "128", "0.90 M", "0.85 M", "23.24 dB"):
        assert words in shown
    for words in (
        "proxy_rfd 4.318",
        "proxy_fd 21.46",
        "proxy_accuracy 75.3 %",
        "images/s 302",
        "images/s 172",
    ):
        assert words in shown


def test_the_page_says_where_the_run_came_from_and_how_to_make_it_again(page):
    shown = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for words in (
        "revision 0123456789ab", "shapes and 1 setting", "fedcfedcfedc",
        "Settings that differ from the preset shapes: mqvae.steps: 40",
        "git checkout 0123456789ab &amp;&amp; make preset PRESET=shapes &amp;&amp; dvc exp run -S mqvae.steps=40",
        "models/&lt;b&gt;.py", "data/&lt;i&gt;",
    ):  # fmt: skip
        assert words in shown, words


def test_every_score_stands_beside_its_protocol(page):
    for name in ("psnr", "proxy_rfd", "mask_auc_smooth"):
        assert f"how {name} is estimated" in page
    assert "900 images against 900 real ones (val)" in page
    assert "9f2c" * 16 in page
    assert "only 900 images for &lt;96&gt; features" in page
    assert "proxy 5a1b" in page


def test_the_page_points_to_nothing_outside_itself(page):
    assert not re.search(r"""(src|href|action|data|poster)\s*=\s*["'](?!data:|#)""", page)
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'" in page
    assert len(page.encode()) < MOST_BYTES


def test_samples_are_shared_out_over_the_classes(made):
    labels = [sample.label for sample in read_report(made.sources, "x", samples=9, examples=1).samples]
    assert {label: labels.count(label) for label in labels} == {"circle": 3, "square": 3, "diamond": 3}


def test_names_from_the_data_are_text_and_nothing_else(hostile_page, hostile_names):
    for text in hostile_names:
        assert text not in hostile_page
    assert hostile_page.count("<script") == 3
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in hostile_page
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', hostile_page, re.DOTALL)
    assert {example["label"] for example in json.loads(data[1])["examples"]} == set(hostile_names)


def test_a_model_without_classes_has_no_filter(make_artifacts, tmp_path):
    plain = make_artifacts(tmp_path, ())
    text = render(read_report(plain.sources, "Faces", samples=12, examples=2))
    assert 'id="filters"' not in text
    assert "from random numbers" in text
    assert text.count("<li data-label") == 12


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
        ("artifacts/evaluation/manifest.json", "run `dvc repro evaluate`"),
        ("artifacts/reconstructions/examples/v2.from-48.png", "run `dvc repro reconstruct`"),
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
    monkeypatch.setattr("reporting.web.rendering.MOST_BYTES", 1000)
    with pytest.raises(UserError, match="lower report.samples, report.examples or report.draw_megabytes"):
        render(read_report(made.sources, "x", 4, 2))


def test_the_stage_writes_one_page_and_what_it_came_from(made, tmp_path):
    folder = RunFolder(tmp_path)
    folder.out.mkdir()
    settings = ReportSettings(title="Shapes", samples=6, examples=2)
    run(settings, COMPUTE, made.sources, folder)
    manifest = read_manifest(folder.out, "report")
    assert list(manifest.files) == ["index.html"]
    assert set(manifest.made_from) == set(vars(made.sources)) - {"numbers", "pipeline"}


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


def test_an_evaluation_of_other_samples_is_refused(copied):
    made = copied()
    facts = read_manifest(made.sources.samples, "samples").facts
    write_manifest(made.sources.samples, "samples", {**facts, "seed": 1}, {})
    with pytest.raises(UserError, match="was made from other samples than .*run `dvc repro evaluate`"):
        read_report(made.sources, "x", 4, 2)


def test_neighbours_are_the_training_images_that_the_evaluation_names(made):
    report = read_report(made.sources, "x", samples=36, examples=1)
    copies = report.copies
    train = ImageShards.open(made.sources.shards).index("train")
    found = Neighbours.load(made.sources.evaluation)
    assert set(copies.near) == set(range(len(found.items)))
    for row, near in copies.near.items():
        assert [copies.pool[one.picture].key for one in near] == [
            train.read(item).key for item in found.items[row]
        ]
        np.testing.assert_allclose([one.distance for one in near], found.distances[row], atol=1e-4)
    assert [sample.row for sample in report.closest] == np.argsort(found.distances[:, 0])[:8].tolist()
    assert (copies.training_images, copies.in_all) == (40, 48)


def test_both_shapes_of_the_histogram_have_the_same_area():
    rng = np.random.default_rng(0)
    drawn = histogram(rng.gamma(9, 1, 900), rng.gamma(4, 1, 300))

    def area(path):
        x, y, total = drawn.x.start, drawn.base, 0.0
        for kind, number in re.findall(r"([VH])([\d.]+)", path):
            if kind == "H":
                total += (float(number) - x) * (drawn.base - y)
                x = float(number)
            else:
                y = float(number)
        return total

    assert area(drawn.samples) == pytest.approx(area(drawn.held_out), rel=0.02)
    assert drawn.x.place(0) == drawn.x.start


def test_a_code_has_the_mean_colour_of_the_cells_that_were_written_as_it(made):
    folder = made.sources.reconstructions
    colours = read_colours(folder, read_manifest(folder, "reconstructions"))
    cells = {code: [] for code in colours}
    for example in read_json(folder / "examples.json"):
        image = np.asarray(Image.open(folder / "examples" / f"{example['key']}.input.png"))
        for code, position in zip(example["codes"], example["kept"], strict=True):
            row, column = position // 8 * 4, position % 8 * 4
            cells[code].append(image[row : row + 4, column : column + 4].reshape(-1, 3).mean(axis=0))
    for code, found in cells.items():
        shown = np.array(list(bytes.fromhex(colours[code][1:])))
        assert np.abs(np.mean(found, axis=0) - shown).max() <= 0.5 + 1e-6


def test_a_page_at_the_papers_size_stays_below_the_limit():
    rng = np.random.default_rng(0)
    soft = Image.fromarray(rng.integers(0, 256, (24, 24, 3)).astype(np.uint8)).resize((256, 256))
    noise = rng.normal(0, 6, (256, 256, 3))
    image = Image.fromarray((np.asarray(soft) + noise).clip(0, 255).astype(np.uint8))
    large, small = len(gallery.data_uri(image)), len(gallery.data_uri(image, gallery.THUMBNAIL))
    assert 24 * 10 * large + 90 * large + 4 * 98 * small < MOST_BYTES


def test_the_most_telling_numbers_come_first():
    names = ["ssim", "other", "proxy_rfd", "codebook_usage", "psnr"]
    assert list(by_meaning(dict.fromkeys(names, 0.0))) == [
        "psnr",
        "proxy_rfd",
        "ssim",
        "codebook_usage",
        "other",
    ]

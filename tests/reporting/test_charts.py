"""Laws of curves, axes, the workflow's graph, the codebook's scatter and the words for numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reporting.axes import axis
from reporting.codes import SIDE, principal, scatter
from reporting.curves import HEIGHT, POINTS, RIGHT, WIDTH, Table, draw, read_table, read_training
from reporting.numbers import duration, flat_values, meaning, shown
from reporting.workflow import BOX_HEIGHT, BOX_WIDTH, Stage, edges, read_stages
from reporting.workflow import draw as draw_workflow
from workspace.code import is_code
from workspace.errors import UserError

finite = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


@given(finite, finite)
def test_an_axis_covers_its_values_and_keeps_their_order(a, b):
    low, high = min(a, b), max(a, b)
    scale = axis(low, high, 0.0, 300.0, logarithmic=False, ticks=4)
    assert scale.low <= low + 1e-9
    assert scale.high >= high - 1e-9
    assert scale.place(low) <= scale.place(high)
    assert 2 <= len(scale.ticks) <= 12
    assert [tick.place for tick in scale.ticks] == sorted(tick.place for tick in scale.ticks)


@given(st.floats(1e-8, 1e3), st.floats(40, 1e9))
def test_equal_ratios_take_equal_room_on_a_logarithmic_axis(low, times):
    scale = axis(low, low * times, 100.0, 0.0, logarithmic=True, ticks=4)
    middle = low * times**0.5
    assert scale.place(low) - scale.place(middle) == pytest.approx(
        scale.place(middle) - scale.place(low * times), abs=0.05
    )
    assert 2 <= len(scale.ticks) <= 8


@given(st.integers(1, 1000), st.booleans())
def test_a_chart_keeps_few_points_the_last_step_and_stays_in_its_box(count, spread):
    values = np.geomspace(1, 1e4, count) if spread else np.linspace(-1, 1, count)
    chart = draw("loss", {"training": Table(np.arange(1, count + 1), {"loss": values})})
    assert chart is not None
    (line,) = chart.lines
    assert len(line.values) <= POINTS
    assert line.steps[-1] == count
    assert chart.x.place(count) == WIDTH - RIGHT
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in line.points)
    assert np.mean(values) == pytest.approx(np.mean(line.values), rel=0.2, abs=0.2)


def test_values_that_are_not_finite_leave_the_curve_not_the_page():
    table = Table(np.array([1, 2, 3]), {"loss": np.array([1.0, np.nan, 2.0]), "gone": np.full(3, np.inf)})
    chart = draw("loss", {"training": table})
    assert chart is not None
    assert chart.lines[0].steps == [1, 3]
    assert draw("gone", {"training": table}) is None


def test_curves_are_read_back_with_their_rate(made):
    training = read_training(made.sources.numbers / "train_mqvae")
    assert training is not None
    assert training.rate == 171.5
    assert [chart.term for chart in training.main] == ["loss", "l1"]
    assert [line.name for line in training.main[0].lines] == ["training", "validation"]
    assert read_training(made.sources.numbers / "shard") is None


def test_a_damaged_curve_is_told_in_one_line(tmp_path):
    path = tmp_path / "curves.tsv"
    path.write_text("step\tloss\n1\n", encoding="utf-8")
    with pytest.raises(UserError, match="has a row that is not 2 numbers"):
        read_table(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="does not begin with a column called step"):
        read_table(path)


def chain(*pairs: tuple[str, str]) -> list[Stage]:
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    return [Stage(n, "", tuple(f"out/{a}" for a, b in pairs if b == n), (f"out/{n}",)) for n in names]


def test_arrows_that_follow_from_others_are_left_out():
    assert edges(chain(("a", "b"), ("b", "c"), ("a", "c"))) == [(0, 1), (1, 2)]


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=14))
def test_every_arrow_goes_right_and_boxes_do_not_touch(pairs):
    stages = chain(*((f"s{min(a, b)}", f"s{max(a, b)}") for a, b in pairs if a != b))
    drawing = draw_workflow(stages)
    for i, j in edges(stages):
        assert drawing.boxes[i].x + BOX_WIDTH < drawing.boxes[j].x
    places = [(box.x, box.y) for box in drawing.boxes]
    assert len(set(places)) == len(places)
    for box in drawing.boxes:
        assert 0 <= box.x <= drawing.width - BOX_WIDTH
        assert 0 <= box.y <= drawing.height - BOX_HEIGHT


def test_a_long_arrow_runs_past_no_box(made):
    drawing = draw_workflow(read_stages(made.sources.pipeline))
    rows = {box.stage.name: box.y for box in drawing.boxes}
    assert rows["shard"] == rows["train_mqvae"] == rows["report"]
    assert len({rows["reference"], rows["reconstruct"], rows["shard"]}) == 3


def test_the_projects_own_workflow_can_be_drawn(root):
    if not (root / "dvc.yaml").is_file():
        pytest.skip("this checkout has no dvc.yaml")
    stages = read_stages(root / "dvc.yaml")
    assert {"shard", "train_mqvae", "train_stackformer", "sample", "report"} <= {
        stage.name for stage in stages
    }
    assert len(edges(stages)) >= len(stages) - 1
    assert not any(is_code(path) for stage in stages for path in stage.reads)


def test_a_file_that_is_no_workflow_is_refused(tmp_path):
    (tmp_path / "dvc.yaml").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="holds no stages"):
        read_stages(tmp_path / "dvc.yaml")
    with pytest.raises(UserError, match="does not exist"):
        read_stages(tmp_path / "none.yaml")


def test_principal_components_rebuild_codes_that_lie_in_a_plane():
    rng = np.random.default_rng(0)
    places, basis = rng.normal(size=(40, 2)), np.linalg.qr(rng.normal(size=(8, 2)))[0]
    found, variance = principal(places @ basis.T + 3)
    assert sum(variance) == pytest.approx(1)
    assert variance[0] >= variance[1]
    np.testing.assert_allclose(
        found @ found.T, (places - places.mean(0)) @ (places - places.mean(0)).T, atol=1e-9
    )


def test_a_code_used_more_is_never_smaller():
    rng = np.random.default_rng(1)
    counts = rng.gamma(1, 5, 50)
    dots = scatter(rng.normal(size=(50, 4)), counts, {}).dots
    assert sorted(dot.code for dot in dots) == list(range(50))
    radii = [dot.radius for dot in sorted(dots, key=lambda dot: counts[dot.code])]
    assert radii == sorted(radii)
    assert all(0 <= dot.x <= SIDE and 0 <= dot.y <= SIDE for dot in dots)


@pytest.mark.parametrize("codes", [np.ones((5, 3)), np.ones((2, 1)), np.zeros((3, 2))])
def test_codes_that_are_all_alike_are_drawn_in_the_middle(codes):
    assert {(dot.x, dot.y) for dot in scatter(codes, None, {}).dots} == {(SIDE / 2, SIDE / 2)}


def test_a_higher_distance_is_worse_and_a_higher_accuracy_better():
    assert {
        name: meaning(name).better for name in ("proxy_fd", "fid", "rfid", "squeezenet_rfd", "l1")
    } == dict.fromkeys(("proxy_fd", "fid", "rfid", "squeezenet_rfd", "l1"), "lower")
    for name in ("psnr", "ssim", "proxy_accuracy", "precision", "mask_auc_smooth"):
        assert meaning(name).better == "higher"
    assert meaning("whatever_else").better == ""


def test_numbers_and_times_read_well():
    assert [shown(value) for value in (900.0, 12345.6, 0.12345, 3.2e-6)] == [
        "900",
        "12,346",
        "0.1235",
        "3.20e-06",
    ]
    assert [duration(value) for value in (8.31, 95, 59.96, 7501)] == [
        "8.3 s",
        "1 min 35 s",
        "1 min 0 s",
        "2 h 5 min",
    ]


def test_only_numbers_are_numbers():
    assert flat_values({"a": {"b": 1}, "c": None, "d": 2.5}, "x") == {"a.b": 1.0, "d": 2.5}
    with pytest.raises(UserError, match="x: a is 'b', expected a number"):
        flat_values({"a": "b"}, "x")

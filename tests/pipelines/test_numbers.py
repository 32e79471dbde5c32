"""Laws of the comparison of a flow's numbers with the run before."""

from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("dvc", reason="DVC is not installed")
pytestmark = pytest.mark.skipif(find_spec("prefect") is None, reason="Prefect is not installed")


def test_numbers_are_compared_with_the_last_run_that_got_to_its_end(tmp_path: Path) -> None:
    from pipelines.dag import Step
    from pipelines.numbers import KEPT, keep_before, rows

    step = Step("a", "train", (), True, (Path("metrics/train"),), frozenset(), frozenset(), "train")
    file = tmp_path / "metrics" / "train" / "metrics.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"loss": 2.0, "gone": 1}')
    keep_before([step], tmp_path)
    file.unlink()  # DVC removes it, and the run is stopped
    keep_before([step], tmp_path)
    file.write_text('{"loss": 1.5, "new": 7}')
    found = {row.name: (row.before, row.now, row.difference) for row in rows([step], tmp_path)}
    assert found == {"loss": (2.0, 1.5, "-0.5"), "new": (None, 7, ""), "gone": (1, None, "")}
    assert (tmp_path / KEPT / "train" / "metrics.json").is_file()


def test_a_number_within_its_interval_is_called_so(tmp_path: Path) -> None:
    from pipelines.dag import Step
    from pipelines.numbers import keep_before, rows

    step = Step("a", "evaluate", (), True, (Path("metrics/evaluate"),), frozenset(), frozenset(), "evaluate")
    file = tmp_path / "metrics" / "evaluate" / "metrics.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"fd": 7.4, "fd_low": 7.0, "fd_high": 7.8, "kid": 0.2, "kid_error": 0.02, "psnr": 20.0}')
    keep_before([step], tmp_path)
    file.write_text('{"fd": 7.7, "fd_low": 7.5, "fd_high": 7.9, "kid": 0.1, "kid_error": 0.02, "psnr": 20.1}')
    found = {row.name: row.told for row in rows([step], tmp_path)}
    assert found["fd"] == "+0.3 within the interval"
    assert found["kid"] == "-0.1" and found["psnr"] == "+0.1"

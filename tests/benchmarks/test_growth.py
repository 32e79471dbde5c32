"""Row 12: the settings that it runs are valid, and its chart shows the figures."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from benchmarks.row_12_growth import settings_of
from benchmarks.table import charts
from workflow.params import load_params

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("images", [300, 6000])
def test_the_settings_of_the_memory_row_are_valid(tmp_path: Path, images: int) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(settings_of(images)), encoding="utf-8")
    params = load_params(file)
    assert params.shapes.train == images
    assert params.compute.workers == 0


def test_the_memory_of_stages_is_drawn_from_what_was_measured() -> None:
    sizes = {"images": 10, "MiB": 300, "images_large": 200, "MiB_large": 303}
    memory: dict[str, Any] = {"name": "growth_memory_shard", "ours": 1.01, "reference": None, "shapes": sizes}
    missing: dict[str, Any] = {"name": "growth_memory_report", "ours": None, "reference": None, "shapes": {}}
    found = charts([memory, missing])
    assert sorted(found) == ["growth_memory.svg"] and not charts([missing])
    texts = [each.text for each in ElementTree.fromstring(found["growth_memory.svg"]).iter(f"{SVG}text")]
    assert "shard" in texts and "report" not in texts

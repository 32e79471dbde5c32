"""docs/paper_map.md points at what is there."""

import re

import pytest

from tests.committed import ROOT

TEXT = (ROOT / "docs" / "paper_map.md").read_text(encoding="utf-8")
REFERENCES = sorted(set(re.findall(r"`([a-z_]+/[a-z_0-9/]+\.py)(?:: ([\w.]+))?`", TEXT)))


@pytest.mark.parametrize(("file", "name"), REFERENCES)
def test_every_file_and_name_of_the_paper_map_exists(file: str, name: str) -> None:
    source = (ROOT / file).read_text(encoding="utf-8")
    for part in filter(None, name.split(".")):
        assert re.search(rf"\b(class|def) {part}\b|^    {part}: ", source, re.M), f"{file} has no {part}"


def test_the_map_has_every_equation_figure_and_table_of_the_paper() -> None:
    told = TEXT.replace("Tables 1-5", "Table 1 Table 2 Table 3 Table 4 Table 5")
    told = told.replace("Eq. 5-7", "Eq. 5 Eq. 6 Eq. 7")
    expected = [f"Eq. {n}" for n in range(1, 15)] + [f"Figure {n}" for n in range(1, 7)]
    for what in [*expected, *(f"Table {n}" for n in range(1, 8)), "Algorithm 1"]:
        assert re.search(rf"{what}\b", told), f"{what} is not in docs/paper_map.md"

"""docs/architecture.md speaks of what is there."""

import ast
import re

import pytest

from tests.committed import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([a-z_/]+\.py):(\w+)`", PAGE)))
FOLDERS = sorted(set(re.findall(r"(?<![\w/.])([a-z]+(?:/[a-z_]+)*)/(?=[\s,;:)]|$)", PAGE)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_name_of_the_page_is_defined_there(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    assert name in {node.name for node in tree.body if isinstance(node, kinds)}


def test_the_page_names_files_and_rooms_that_are_there() -> None:
    files = re.findall(r"`([a-z_/]+\.(?:py|yaml))`", PAGE)
    assert len(NAMED) > 20 and len(FOLDERS) > 5
    assert [path for path in (*files, *FOLDERS) if not (ROOT / path).exists()] == []

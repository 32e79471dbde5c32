"""What code and pages refer to is in the repository."""

import re

from tests.committed import ROOT, working_names

OUTSIDE = re.compile(r"\b(DESIGN|TRIAL|STACK|STYLE)(\.md\b| section\b| §)|\bDESIGN\b")
"""Documents that were never part of it."""


def texts() -> dict[str, str]:
    """Every text of code and docs."""
    kinds = (".py", ".md", ".yaml", ".toml", "Makefile")
    return {
        name: (ROOT / name).read_text(encoding="utf-8") for name in working_names() if name.endswith(kinds)
    }


def test_no_text_refers_to_a_document_that_is_not_in_the_repository() -> None:
    found = {
        f"{name}: {match[0]}"
        for name, text in texts().items()
        if name != "tests/test_documents.py"
        for match in OUTSIDE.finditer(text)
    }
    assert not found


def test_each_page_that_code_refers_to_is_there() -> None:
    named = {
        (name, page)
        for name, text in texts().items()
        if name.endswith(".py") or name == "Makefile"
        for page in re.findall(r"\bdocs/[a-z0-9_/-]+\.md\b", text)
        if not name.startswith("tests/")
    }
    assert named
    assert [f"{name}: {page}" for name, page in named if not (ROOT / page).is_file()] == []

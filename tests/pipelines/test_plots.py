"""DVC's plots without the network; the command itself is run by tests/test_experiments_page.py."""

import re

import pytest

from pipelines.plots import self_contained

PAGE = """<html><head><title>DVC</title>
<script src="https://cdn.example/vega@5"></script>
<script type="text/javascript" src='https://cdn.example/vega-embed@6'></script>
</head><body><script>vegaEmbed("#plot", {})</script></body></html>"""


def test_the_library_comes_before_what_uses_it_and_nothing_is_loaded() -> None:
    made = self_contained(PAGE, "var vegaEmbed = x => '</script>'")
    assert not re.search(r"src=[\"']http", made)
    assert made.index("var vegaEmbed") < made.index('vegaEmbed("#plot"')
    assert made.count("<script") == made.count("</script>") == 2


def test_a_page_of_another_form_is_not_passed_off_as_self_contained() -> None:
    with pytest.raises(ValueError, match="loads no script"):
        self_contained("<html></html>", "x")

"""Laws of `make deps`: it mends what is wrong in dvc.yaml's code deps, and touches nothing else."""

import pytest

from tests.committed import ROOT
from workspace.code import ARMS, PIPELINES, code_deps, is_code, packages_of, rewritten

WORKFLOW = """\
# What stands above.
stages:
  report:
    desc: one page   # told in a line
    cmd: >-
      python -m stages.report --shards artifacts/shards
      --out artifacts/report
    params: [report]
    deps:
      - artifacts/shards   # an input
      - models/masker.py
    outs: [artifacts/report]
"""


@pytest.mark.parametrize("name", PIPELINES)
def test_a_workflow_that_is_right_stays_as_it_is(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert rewritten(text, name.startswith(ARMS)) == (text, [])


def test_code_is_rewritten_and_the_rest_is_kept_to_the_letter() -> None:
    text, changed = rewritten(WORKFLOW)
    assert changed == ["report"]
    code = [
        line for line in text.splitlines() if line.strip().startswith("- ") and is_code(line.split("- ")[1])
    ]
    assert [line.strip().removeprefix("- ") for line in code] == code_deps({"cmd": "python -m stages.report"})
    rest = [line for line in text.splitlines() if line not in code]
    assert rest == [line for line in WORKFLOW.splitlines() if "models/masker.py" not in line]
    assert rewritten(text) == (text, [])


def test_a_data_file_beside_a_module_that_names_it_is_code() -> None:
    assert {"reporting/web/page.html.j2", "reporting/web/base.css", "reporting/web/viewer.js"} <= set(
        code_deps({"cmd": "python -m stages.report"})
    )


def test_arms_name_packages_and_of_the_workspace_its_manifests_alone() -> None:
    files = ["models/masker.py", "models/mqvae.py", "shards/tar.py", "workspace/manifest.py"]
    assert packages_of(files) == ["models", "shards", "workspace/manifest.py"]

"""Laws of `make deps`: it mends what is wrong in dvc.yaml's code deps, and touches nothing else."""

from pathlib import Path

import pytest

from tests.committed import ROOT
from workspace.code import PIPELINES, code_deps, is_code, named, result_files, rewritten

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
      - models/mqvae/masker.py
    outs: [artifacts/report]
"""


@pytest.mark.parametrize("name", PIPELINES)
def test_a_workflow_that_is_right_stays_as_it_is(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert rewritten(text) == (text, [])


def test_code_is_rewritten_and_the_rest_is_kept_to_the_letter() -> None:
    text, changed = rewritten(WORKFLOW)
    assert changed == ["report"]
    code = [
        line for line in text.splitlines() if line.strip().startswith("- ") and is_code(line.split("- ")[1])
    ]
    assert [line.strip().removeprefix("- ") for line in code] == code_deps({"cmd": "python -m stages.report"})
    rest = [line for line in text.splitlines() if line not in code]
    assert rest == [line for line in WORKFLOW.splitlines() if "models/mqvae/masker.py" not in line]
    assert rewritten(text) == (text, [])


def test_a_data_file_beside_a_module_that_names_it_is_code() -> None:
    files = {path.as_posix() for path in result_files("report")}
    assert {"reporting/web/page.html.j2", "reporting/web/base.css", "reporting/web/viewer.js"} <= files


def test_a_file_is_named_by_its_folder_and_a_room_where_all_of_it_is_needed() -> None:
    mqvae, sampling = Path("models/mqvae/masker.py"), Path("models/sampling/choice.py")
    base, stackformer = Path("models/base/moving.py"), Path("models/stackformer/model.py")
    alone = Path("shards/samples.py")
    assert named([mqvae, sampling, alone]) == ["models/mqvae", "models/sampling", "shards/samples.py"]
    assert named([mqvae, sampling, base, stackformer]) == ["models"]
    assert named([mqvae], whole=("models", "shards")) == ["models"]


def test_a_room_of_single_files_is_not_named_as_a_pipeline_and_its_lock_may_lie_there() -> None:
    assert named([Path("demo/drawing.py")]) == ["demo/drawing.py"]


def test_arms_name_rooms_but_of_the_workspace_and_the_demo_what_decides() -> None:
    code = code_deps(
        {"cmd": "python -m experiments.arm --arm x train_mqvae --out a then reconstruct --out b"}
    )
    assert {"models", "shards", "training", "workspace/exact", "demo/drawing.py"} <= set(code)
    assert not {"workspace", "demo", "models/mqvae"} & set(code)

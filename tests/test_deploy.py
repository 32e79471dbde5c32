"""The cluster manifest says what this project's code needs, in the fields that KubeRay reads."""

import re
import shlex
from typing import Any

import pytest
import yaml

from tests.committed import ROOT
from workspace.settings import STAGES, Compute


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "rayjob.yaml").read_text())
    return found


def groups(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def test_it_is_a_ray_job_of_the_version_that_is_pinned(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None and job["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]
    assert f"ray:{pinned[1]}-" in (ROOT / "deploy" / "Dockerfile").read_text()


def test_its_command_is_the_workflows_own(job: dict[str, Any]) -> None:
    shell, flag, script = shlex.split(job["spec"]["entrypoint"])
    assert (shell, flag) == ("bash", "-c")
    folder, command = (part.strip() for part in script.split("&&"))
    assert folder == "cd /work/project" and command == "dvc repro"
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert set(STAGES) - {"draw_shapes"} <= stages.keys()


def test_every_node_has_the_project_at_the_same_path_and_the_same_image(job: dict[str, Any]) -> None:
    seen = set()
    for group in groups(job):
        pod = group["template"]["spec"]
        [container] = pod["containers"]
        [mount] = [one for one in container["volumeMounts"] if one["name"] == "project"]
        [volume] = [one for one in pod["volumes"] if one["name"] == "project"]
        assert all(
            one["name"] in {volume["name"] for volume in pod["volumes"]} for one in container["volumeMounts"]
        )
        environment = {one["name"]: one["value"] for one in container["env"]}
        claim = volume["persistentVolumeClaim"]["claimName"]
        seen.add((container["image"], mount["mountPath"], claim, environment["PYTHONPATH"]))
    [(_, path, _, code)] = seen
    assert code.startswith(f"{path}/")


def test_the_params_that_its_comment_asks_for_are_valid_and_fit_its_gpus(job: dict[str, Any]) -> None:
    text = (ROOT / "deploy" / "rayjob.yaml").read_text()
    found = re.search(r"compute: \{(device: \w+, workers: \d+, ray_address: \w+), …\}", text)
    assert found is not None
    asked = yaml.safe_load(f"{{{found[1]}}}")
    compute = Compute(threads=0, loader_workers=4, **asked)
    gpus = 0
    for group in groups(job)[1:]:
        [container] = group["template"]["spec"]["containers"]
        each = int(container["resources"]["limits"]["nvidia.com/gpu"])
        assert int(container["resources"]["requests"]["nvidia.com/gpu"]) == each
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]
        gpus += each * group["replicas"]
    assert compute.workers == gpus and compute.ray_address == "auto"

"""Weights that settings name decide a run's identity and are dependencies for DVC, by their bytes."""

import os
import shutil
from pathlib import Path

import pytest
import yaml

from tests import presets
from tests.committed import ROOT
from workflow.running import _identity
from workflow.stage import stage_named
from workspace.exact.manifest import write_manifest
from workspace.fingerprints import content_fingerprint

NAMED = {
    "reference.weights": "reference",
    "mqvae.init_from": "train_mqvae",
    "mqvae.perceptual.backbone": "train_mqvae",
    "mqvae.perceptual.heads": "train_mqvae",
    "reconstruct.lpips.backbone": "reconstruct",
    "reconstruct.lpips.heads": "reconstruct",
    "tokenize.lpips.backbone": "tokenize",
    "tokenize.lpips.heads": "tokenize",
    "stackformer.init_from": "train_stackformer",
}


def hashes(root: Path) -> dict[str, set[str]]:
    """Stage → what DVC hashes of its dependencies that lie outside of the code and are here."""
    pytest.importorskip("dvc", reason="DVC is not installed")
    from dvc.repo import Repo

    with Repo(str(root), config={"core": {"no_scm": True}}) as repo:
        return {
            stage.addressing.rpartition(":")[2]: {
                f"{dep.def_path} {dep.get_hash().value}"
                for dep in stage.deps
                if dep.def_path == "None" or "nets" in dep.def_path
            }
            for stage in repo.index.stages
        }


def test_weights_of_every_setting_are_dependencies_and_null_is_none(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    for name in ("dvc.yaml", "None"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "params.yaml").write_text(presets.text("tiny"))
    plain = hashes(tmp_path)
    assert {stage for stage, found in plain.items() if found} == set(NAMED.values())
    lines = presets.tree("tiny")
    for name in NAMED:
        file = tmp_path / "nets" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("1")
        node = lines
        for key in name.split(".")[:-1]:
            node = node[key]
        node[name.rpartition(".")[2]] = str(file)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(lines))
    before = hashes(tmp_path)
    assert {stage: len(found) for stage, found in before.items() if found} == {
        "reference": 1, "train_mqvae": 3, "reconstruct": 2, "tokenize": 2, "train_stackformer": 1,
    }  # fmt: skip
    (tmp_path / "nets" / "mqvae.perceptual.heads").write_text("2")
    (tmp_path / "nets" / "stackformer.init_from").write_text("2")
    after = hashes(tmp_path)
    assert {stage for stage in after if after[stage] != before[stage]} == {"train_mqvae", "train_stackformer"}


def test_weights_are_known_by_their_bytes_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_text("weights")
    first = content_fingerprint(file)
    os.utime(file, (0, 0))
    assert content_fingerprint(file) == first != content_fingerprint(tmp_path / "gone") == "missing"
    folder, copy = tmp_path / "one", tmp_path / "two"
    folder.mkdir()
    shutil.copy(file, folder / "model.safetensors")
    shutil.copytree(folder, copy)
    assert content_fingerprint(folder) == content_fingerprint(copy) != first
    write_manifest(folder, "mqvae", {}, made_from={})
    published = content_fingerprint(folder)
    assert published != content_fingerprint(copy)
    (folder / "model.safetensors").write_text("wEights")
    assert content_fingerprint(folder) not in (published, content_fingerprint(copy))


@pytest.mark.parametrize(
    ("stage", "keys"),
    [
        ("reference", ("weights",)),
        ("train_mqvae", ("init_from", "perceptual.backbone", "perceptual.heads")),
        ("reconstruct", ("lpips.backbone", "lpips.heads")),
        ("tokenize", ("lpips.backbone", "lpips.heads")),
        ("train_stackformer", ("init_from",)),
    ],
)
def test_a_run_is_another_where_the_weights_behind_a_name_are_others(
    stage: str, keys: tuple[str, ...], tmp_path: Path
) -> None:
    """DVC asks for a stage; this decides whether it goes on with what it had begun."""
    found = stage_named(stage)
    tree = presets.tree("faces")[found.settings.SECTION]
    for key in keys:
        node = tree[key.partition(".")[0]] if "." in key else tree
        (tmp_path / key).write_text("1")
        if "network" in node:
            node["network"] = "squeezenet"  # without one no weights are read
        node[key.rpartition(".")[2]] = tmp_path / key
    settings = found.settings.model_validate(tree)
    before = _identity(found, settings, {}).fingerprint
    seen = {before}
    for key in keys:
        (tmp_path / key).write_text("2")
        seen.add(_identity(found, settings, {}).fingerprint)
    assert len(seen) == 1 + len(keys)

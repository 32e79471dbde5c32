"""The token data set as a product: imported by DVC into a project that has neither images nor MQ-VAE, and trained on there."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from shards.tokens import TokenShards
from shards.tokens.blocks import unpack_positions
from tests.tiny import copy_of, finished_repository, run
from tests.typed import typed

pytest.importorskip("dvc", reason="DVC is not installed")
STEPS = 50


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the repository, without its cache, whose artifacts lie in a DVC remote."""
    folder = tmp_path_factory.mktemp("origin")
    made = copy_of(finished_repository(tmp_path_factory), folder / "made")
    typed(made, "dvc", "remote", "add", "--default", "shelf", str(folder / "shelf"))
    typed(made, "dvc", "push", "-q")
    run(made, "git", "commit", "-aqm", "a shelf")
    run(folder, "git", "clone", "-q", str(made), "clone")
    shutil.rmtree(made)
    return folder / "clone"


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory, origin: Path) -> Path:
    """Another project, in which the tokens were imported; it has a params file and nothing else of ours."""
    project = tmp_path_factory.mktemp("foreign")
    run(project, "git", "init", "-q")
    typed(project, "dvc", "init", "-q")
    typed(project, "dvc", "import", str(origin), "artifacts/tokens", "--out", "tokens")
    params = yaml.safe_load((origin / "params.yaml").read_text())
    params["stackformer"] |= {"steps": STEPS, "validate_every": STEPS}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    typed(project, "python", "-m", "stages.train_stackformer", "--tokens", "tokens", "--params", "params.yaml",
        "--out", "stackformer", "--metrics", "numbers")  # fmt: skip
    return project


def test_a_clone_gets_its_artifacts_from_the_remote(origin: Path) -> None:
    typed(origin, "dvc", "pull", "-q", "tokenize", "train_mqvae")
    assert "intact" in typed(origin, "python", "-m", "shards.verify", "artifacts/tokens")
    assert (origin / "artifacts" / "mqvae" / "model.safetensors").is_file()


def test_the_foreign_project_trained_and_validated_without_images_or_mqvae(foreign: Path) -> None:
    assert sorted(path.name for path in foreign.iterdir() if not path.name.startswith(".")) == [
        "numbers", "params.yaml", "stackformer", "tokens", "tokens.dvc"]  # fmt: skip
    header, *rows = (foreign / "numbers" / "validation.tsv").read_text().splitlines()
    last = dict(zip(header.split("\t"), rows[-1].split("\t"), strict=True))
    assert int(last["step"]) == STEPS and 0 < float(last["nats_per_image"]) < 400
    first, *_, end = (foreign / "numbers" / "curves.tsv").read_text().splitlines()[1:]
    assert float(end.split("\t")[1]) < float(first.split("\t")[1])


def test_dvc_get_gives_the_same_bytes_as_import(origin: Path, foreign: Path, tmp_path: Path) -> None:
    typed(tmp_path, "dvc", "get", str(origin), "artifacts/tokens", "--out", "tokens")
    got = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(got) >= 5
    for name, data in got.items():
        assert (foreign / name).read_bytes() == data, name


def test_the_lines_of_the_imported_readme_load_it_with_numpy_alone(foreign: Path) -> None:
    text = (foreign / "tokens" / "README.md").read_text(encoding="utf-8")
    lines = text.split("```python\n")[1].split("```")[0]
    code = f"{lines}\nnp.savez('../loaded.npz', codes=codes, positions=positions)\nprint(len(keys))"
    (foreign / ".load.py").write_text(code)
    said = run(foreign / "tokens", "python", "-I", str(foreign / ".load.py"))
    loaded = np.load(foreign / "loaded.npz")
    (foreign / "loaded.npz").unlink()
    split, facts = (
        TokenShards.open(foreign / "tokens").load("train"),
        TokenShards.open(foreign / "tokens").facts,
    )
    assert int(said) == len(split.keys)
    np.testing.assert_array_equal(loaded["codes"], split.codes)
    expected = unpack_positions(split.kept, facts.num_positions, facts.num_kept)
    np.testing.assert_array_equal(loaded["positions"], expected)


def test_sampling_there_asks_for_the_decoder_by_its_fingerprint(
    origin: Path, foreign: Path, tmp_path: Path
) -> None:
    typed(origin, "dvc", "pull", "-q", "train_mqvae")
    right, other = origin / "artifacts" / "mqvae", tmp_path / "other"
    command = ["python", "-m", "stages.sample", "--stackformer", "stackformer", "--params", "params.yaml"]
    typed(foreign, *command, "--mqvae", str(right), "--out", str(tmp_path / "samples"))
    assert (tmp_path / "samples" / "grid.png").is_file()

    shutil.copytree(right, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["made_from"] = {"shards": "0" * 64}
    write_resealed(other, manifest)
    said = typed(foreign, *command, "--mqvae", str(other), "--out", str(tmp_path / "no"), check=False)
    learned = json.loads((foreign / "stackformer" / "manifest.json").read_text())["facts"]["mqvae"]
    assert f"learned tokens made by MQ-VAE {learned[:4]}" in said and "Traceback" not in said
    assert not (tmp_path / "no").exists()


def write_resealed(folder: Path, manifest: dict[str, object]) -> None:
    """The artifact of another training: whole, with a fingerprint of its own."""
    from workspace.exact.manifest import write_manifest

    (folder / "manifest.json").unlink()
    facts, made_from = manifest["facts"], manifest["made_from"]
    assert isinstance(facts, dict) and isinstance(made_from, dict)
    write_manifest(folder, "mqvae", facts, made_from)

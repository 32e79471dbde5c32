"""Laws of the look at a cluster before work: what does not fit is told at once, with both sides."""

import socket
from pathlib import Path

import pytest

from cluster.session import ROOT, check_node, describe_node, environment, session
from workspace.code import PACKAGES
from workspace.errors import UserError
from workspace.settings import Compute

FAR = Compute(device="cpu", workers=2, threads=1, loader_workers=0, ray_address="10.0.0.1:6379")
HERE = {"Python": "3.11.7", "torch": "2.13.0", "probe": "seen"}


def test_a_node_that_fits_passes() -> None:
    check_node("10.0.0.5", dict(HERE), HERE, Path("/shared/run"))


@pytest.mark.parametrize(
    ("there", "told"),
    [
        (None, "node 10.0.0.5 does not answer within 60 s"),
        (HERE | {"probe": ""}, "node 10.0.0.5 does not reach /shared/run: .*every node has mounted"),
        (HERE | {"torch": "2.11.0"}, "node 10.0.0.5 has torch 2.11.0, but this one has 2.13.0"),
        (HERE | {"Python": "3.12.1"}, "node 10.0.0.5 has Python 3.12.1, but this one has 3.11.7"),
    ],
)
def test_a_node_that_does_not_is_named_with_both_sides(there: dict[str, str] | None, told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_node("10.0.0.5", there, HERE, Path("/shared/run"))


def test_a_node_tells_its_versions_and_whether_it_sees_a_file(tmp_path: Path) -> None:
    (tmp_path / "probe").write_text("seen")
    assert describe_node(str(tmp_path / "probe"))["probe"] == "seen"
    told = describe_node(str(tmp_path / "nothing"))
    assert told["probe"] == "" and told["torch"] and told["Python"].startswith("3.")


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("ray://10.0.0.1:10001", "ray_address is ray://10.0.0.1:10001; expected local, auto, or HOST:PORT"),
        ("somewhere", "ray_address is somewhere; expected local, auto, or HOST:PORT"),
    ],
)
def test_an_address_of_another_kind_is_refused(tmp_path: Path, address: str, told: str) -> None:
    with (
        pytest.raises(UserError, match=told),
        session(FAR.model_copy(update={"ray_address": address}), tmp_path),
    ):
        pytest.fail("connected")


def test_an_address_where_nobody_listens_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (
        pytest.raises(UserError, match=f"no Ray answers at {address}"),
        session(FAR.model_copy(update={"ray_address": address}), tmp_path),
    ):
        pytest.fail("connected")


def test_a_cluster_is_sent_the_code_and_nothing_else() -> None:
    sent = environment(FAR)
    assert (
        sent["py_modules"] == [str(ROOT / name) for name in PACKAGES] and "PYTHONPATH" not in sent["env_vars"]
    )
    assert environment(FAR.model_copy(update={"ray_address": "local"})).keys() == {"env_vars"}

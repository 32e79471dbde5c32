"""A run does what the server says of it: which states end it, and that one which ends leaves no process and its state alone."""

from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    not all(map(find_spec, ("dvc", "prefect", "psutil"))), reason="DVC or Prefect is not installed"
)
"""Tests import what imports Prefect, 1.6 CPU seconds: pytest collects this file in each of its workers, and one runs it."""


class Server:
    """A server that answers one thing after the other, and the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), 0
        self.set: list[Any] = []

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def read_flow_run(self, flow_run: object) -> Any:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def set_flow_run_state(self, flow_run: object, state: Any, force: bool) -> None:
        self.set.append(state.type)


def run(kind: str = "RUNNING", name: str = "", count: int = 1) -> Any:
    from prefect.client.schemas.objects import StateType
    from prefect.states import State

    return SimpleNamespace(state=State(type=StateType(kind), name=name or kind.title()), run_count=count)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ask a server of these answers until the watch stops, or has asked `asks` times; the server, what was ended, and why."""

    from pipelines.obeying import Watch
    from pipelines.running import RUNNING

    def watch(*answers: Any, asks: int = 8) -> tuple[Server, list[str], str]:
        server, ended, said = Server(*answers), [], []
        monkeypatch.setattr("pipelines.obeying.get_client", lambda sync_client: server)
        monkeypatch.setattr(RUNNING, "stop", lambda: ended.append("stages"))
        made = Watch.__new__(Watch)
        made.id, made.reason, made.started = "a run", "", 0  # type: ignore[assignment]
        made.log = SimpleNamespace(warning=lambda *words: said.append(words[0]))  # type: ignore[assignment]

        class Clock:
            def is_set(self) -> bool:
                return server.asked >= asks

            def wait(self, seconds: float) -> bool:
                return True

        made.closed = Clock()  # type: ignore[assignment]
        made.work()
        return server, ended, made.reason

    return watch


def test_every_state_but_running_ends_the_stages_and_cancelling_alone_is_answered(watched: Any) -> None:
    from prefect.client.schemas.objects import StateType

    for kind in StateType:
        server, ended, reason = watched(run(), run(), run(kind.value, name="Of the operator"))
        assert bool(ended) == bool(reason) == (kind != StateType.RUNNING), kind
        assert not server.set
        server, ended, reason = watched(run(), run(kind.value))
        assert server.set == ([StateType.CANCELLED] if kind == StateType.CANCELLING else []), kind


def test_a_run_that_is_started_a_second_time_or_gone_ends(watched: Any) -> None:
    assert watched(run(count=3), run(count=3), run(count=4))[1:][0] == ["stages"]
    from prefect.exceptions import ObjectNotFound

    from pipelines.obeying import TIMES_MISSING

    gone = ObjectNotFound(Exception("404"))
    server, ended, reason = watched(run(), gone)
    assert ended and "deleted" in reason and server.asked == 1 + TIMES_MISSING
    assert not watched(run(), gone, run(), gone, run())[1], "another server at this port for a moment"


def test_a_server_that_cannot_be_asked_says_nothing(watched: Any) -> None:
    away = [OSError("refused"), TimeoutError(), RuntimeError("503")]
    server, ended, reason = watched(run(), *away, run(), *away, run())
    assert not ended and not reason and server.asked == 8
    assert watched(*away, run("PAUSED"))[1] == ["stages"]


def test_five_runs_are_a_light_load_and_a_state_is_seen_in_time() -> None:
    from pipelines.guard import FORCE_SECONDS, GRACE_SECONDS
    from pipelines.obeying import ASK_SECONDS

    assert 5 / ASK_SECONDS <= 3 and ASK_SECONDS + GRACE_SECONDS + FORCE_SECONDS < 9

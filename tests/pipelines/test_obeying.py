"""A run does what the server says of it: which states end it, and that one which ends leaves no process and its state alone."""

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("dvc", reason="DVC is not installed")
pytest.importorskip("prefect", reason="Prefect is not installed")
pytest.importorskip("psutil", reason="psutil comes with DVC, which is not installed")

from prefect.client.schemas.objects import StateType  # noqa: E402
from prefect.exceptions import ObjectNotFound  # noqa: E402
from prefect.states import State  # noqa: E402

from pipelines.obeying import ASK_SECONDS, TIMES_MISSING, Watch  # noqa: E402
from pipelines.running import RUNNING  # noqa: E402


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


def run(kind: StateType = StateType.RUNNING, name: str = "", count: int = 1) -> Any:
    return SimpleNamespace(state=State(type=kind, name=name or kind.value.title()), run_count=count)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ask a server of these answers until the watch stops, or has asked `asks` times; the server, what was ended, and why."""

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


@pytest.mark.parametrize("kind", list(StateType), ids=lambda kind: kind.value)
def test_every_state_but_running_ends_the_stages_and_cancelling_alone_is_answered(
    watched: Any, kind: StateType
) -> None:
    server, ended, reason = watched(run(), run(), run(kind, name="Of the operator"))
    assert bool(ended) == bool(reason) == (kind != StateType.RUNNING)
    assert not server.set
    server, ended, reason = watched(run(), run(kind))
    assert server.set == ([StateType.CANCELLED] if kind == StateType.CANCELLING else [])


def test_a_run_that_is_started_a_second_time_or_gone_ends(watched: Any) -> None:
    assert watched(run(count=3), run(count=3), run(count=4))[1:][0] == ["stages"]
    gone = ObjectNotFound(Exception("404"))
    server, ended, reason = watched(run(), gone)
    assert ended and "deleted" in reason and server.asked == 1 + TIMES_MISSING
    assert not watched(run(), gone, run(), gone, run())[1], "another server at this port for a moment"


def test_a_server_that_cannot_be_asked_says_nothing(watched: Any) -> None:
    away = [OSError("refused"), TimeoutError(), RuntimeError("503")]
    server, ended, reason = watched(run(), *away, run(), *away, run())
    assert not ended and not reason and server.asked == 8
    assert watched(*away, run(StateType.PAUSED))[1] == ["stages"]


def test_five_runs_are_a_light_load_and_a_state_is_seen_in_time() -> None:
    from pipelines.guard import FORCE_SECONDS, GRACE_SECONDS

    assert 5 / ASK_SECONDS <= 3 and ASK_SECONDS + GRACE_SECONDS + FORCE_SECONDS < 9

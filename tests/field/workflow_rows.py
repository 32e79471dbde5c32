"""Symptoms of the area named by this file; see `tests.field.table`."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.field.table import Field, Row
from tests.hostile.results import ROOT
from tests.waiting import slowness, until

AREA = "The dashboard and its runs"
PARAMS = "sample:\n  guidance_scale: 3.0   # 1 is unguided\n  seed: 0\n"


def command(folder: Path, module: str, *arguments: str, **env: str) -> str:
    """What a command of the project says in a folder, and its exit status; its port by name."""
    done = subprocess.run(
        [sys.executable, "-m", f"pipelines.{module}", *arguments],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)} | env, capture_output=True, text=True, timeout=120 * slowness(), check=False,
    )  # fmt: skip
    return f"{done.stdout}{done.stderr.strip()} (exit {done.returncode})".replace(str(folder), "WORKSPACE")


def dotenv(module: str, *arguments: str) -> Callable[[Field, Path], str]:
    """What a command says where .env has settings of Prefect's."""

    def outcome(field: Field, folder: Path) -> str:
        database = "sqlite+aiosqlite:////home/me/prefect.db"
        text = f"AWS_PROFILE=mine\nexport PREFECT_API_KEY=secret\nPREFECT_SERVER_DATABASE_CONNECTION_URL = {database}\n"
        (folder / ".env").write_text(text)
        return command(folder, module, *arguments)

    return outcome


def other_dotenv(field: Field, folder: Path) -> str:
    from pipelines.home import set_by_dotenv

    (folder / ".env").write_text("AWS_PROFILE=mine\n# PREFECT_API_KEY=x\n")
    return f"refused: {set_by_dotenv(folder)}" if set_by_dotenv(folder) else "taken as it is"


def second_dashboard(field: Field, folder: Path) -> str:
    from pipelines.home import LOCK, lock

    with lock(folder / LOCK) as file:
        assert file is not None
        file.write("http://127.0.0.1:4200")
        file.flush()
        return command(folder, "dashboard", "--port", "0")


def listening(folder: Path, killed_before: bool) -> str:
    """What the dashboard says of a port that something else listens on."""
    from pipelines.home import LOCK

    if killed_before:
        (folder / LOCK).parent.mkdir(parents=True)
        (folder / LOCK).write_text("http://127.0.0.1:4200", encoding="utf-8")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        return command(folder, "dashboard", "--port", port).replace(port, "PORT")


KILLED = """
import time
from pathlib import Path
from pipelines.home import lock
from pipelines.overrides import WORKSPACE, overridden
with lock(Path() / WORKSPACE), overridden(Path(), ["sample.guidance_scale=5"]):
    Path("started").touch()
    time.sleep(600)
"""


def killed_run(field: Field, folder: Path) -> str:
    (folder / "params.yaml").write_text(PARAMS, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.Popen([sys.executable, "-c", KILLED], cwd=folder, env=env)
    until((folder / "started").exists, 60)
    during = (folder / "params.yaml").read_text(encoding="utf-8")
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    until(lambda: (folder / "params.yaml").read_text(encoding="utf-8") == PARAMS, 60)
    return f"during: {during.splitlines()[1].strip()}; after kill -9: params.yaml as before, to the byte"


def edited_meanwhile(field: Field, folder: Path) -> str:
    from pipelines.home import lock
    from pipelines.overrides import WORKSPACE, apply_again, overridden

    file = folder / "params.yaml"
    file.write_text(PARAMS, encoding="utf-8")
    with lock(folder / WORKSPACE), overridden(folder, ["sample.guidance_scale=5"]):
        file.write_text(PARAMS.replace("seed: 0", "seed: 7"), encoding="utf-8")
        apply_again(folder)
        during = file.read_text(encoding="utf-8")
    lines = [" ".join(text.split()) for text in (during, file.read_text(encoding="utf-8"))]
    return f"the next stage reads: {lines[0]}; afterwards: {lines[1]}"


def refused(change: str) -> Callable[[Field, Path], str]:
    def outcome(field: Field, folder: Path) -> str:
        from pipelines.errors import RefusedError
        from pipelines.params import with_value

        try:
            return with_value(PARAMS + "anchored: &a {b: 1}\nuser: *a\n", change)[0]
        except RefusedError as error:
            return str(error)

    return outcome


def asked(path: str, **headers: str) -> Callable[[Field, Path], str]:
    """What the dashboard's site answers, its app a page that says hello."""

    def outcome(field: Field, folder: Path) -> str:
        from starlette.responses import HTMLResponse
        from starlette.testclient import TestClient

        from pipelines.site import Site

        (folder / "params.yaml").write_text(PARAMS, encoding="utf-8")
        client = TestClient(
            Site(HTMLResponse("<head></head>hello"), folder),
            base_url="http://127.0.0.1:4200",
            follow_redirects=False,
        )
        answer = client.get(path, headers={"Accept": "text/html"} | headers)
        policy = answer.headers["content-security-policy"].split(";")
        return f"{answer.status_code} {answer.headers.get('location') or answer.text.strip()} [{policy[0]}]"

    return outcome


def states(field: Field, folder: Path) -> str:
    from prefect.client.schemas.objects import StateType

    from pipelines.obeying import Watch

    watch = Watch.__new__(Watch)
    watch.started = 0

    def says(kind: StateType, count: int = 1) -> bool:
        run: Any = SimpleNamespace(state=SimpleNamespace(type=kind, name=kind.value.title()), run_count=count)
        return bool(watch.objection(run))

    assert not says(StateType.RUNNING), "this is how it starts"
    ended = [kind.value.lower() for kind in StateType if says(kind)]
    return f"{', '.join(sorted(ended))}, started a second time: {says(StateType.RUNNING, 2)}"


WHOSE = """
from pathlib import Path
from pipelines import home
home.use(Path())
from prefect.settings import get_current_settings
settings = get_current_settings()
print(settings.home, repr(settings.api.url), settings.api.key)
"""


def own_prefect(field: Field, folder: Path) -> str:
    home = folder / "home" / ".prefect"
    home.mkdir(parents=True)
    (home / "profiles.toml").write_text(
        'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://10.0.0.1/api"\n'
    )
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "HOME": str(home.parent),
        "PREFECT_API_KEY": "secret",
        "PREFECT_PROFILE": "mine",
    }
    said = subprocess.run(
        [sys.executable, "-c", WHOSE], cwd=folder, env=env, capture_output=True, text=True, check=True
    ).stdout
    return said.strip().replace(str(folder), "WORKSPACE")


ROWS: tuple[Row, ...] = (
    Row(
        "a run suspended, cancelled, failed by hand or deleted in the dashboard trains on", AREA,
        "every state that the server can give a run, as the run's own watch reads it",
        "cancelled, cancelling, completed, crashed, failed, paused, pending, scheduled, started a second time: True",
        states,
    ),
    Row(
        "a second dashboard on the same workspace starts a second server on its database", AREA,
        "a dashboard holds the workspace; another is started on another port",
        "the dashboard of this workspace is already running at http://127.0.0.1:4200 (exit 1)",
        second_dashboard,
    ),
    Row(
        "the dashboard is started where another program has the port", AREA,
        "something listens on the port",
        "port PORT is taken: stop the program that uses it, or choose another: make dashboard PORT=4300 (exit 1)",
        lambda field, folder: listening(folder, killed_before=False),
    ),
    Row(
        "after kill -9 of the dashboard its lock is in the way of the next one", AREA,
        "the lock's file is there, its holder is not; and the port is another program's, so that the start ends there",
        "port PORT is taken",
        lambda field, folder: listening(folder, killed_before=True),
    ),
    Row(
        "the dashboard with a port that is none", AREA, "--port 99999",
        "99999 is not a port; expected 1 … 65535, or 0 for any free one (exit 2)",
        lambda field, folder: command(folder, "dashboard", "--port", "99999").rpartition("error: ")[2],
    ),
    Row(
        "a bookmark of the interface V2 asks an analytics host", AREA, "GET /v2/runs", "307 /runs [default-src 'self']",
        asked("/v2/runs"),
    ),
    Row(
        "the API's documentation takes its scripts from another host", AREA, "GET /docs",
        "404 Not available: this page's scripts are on other hosts.", asked("/docs"),
    ),
    Row(
        "a web page that is open in the same browser starts runs", AREA, "a request with another page's Origin",
        "403 a page of http://evil.example may not ask this server.", asked("/api/flow_runs/", Origin="http://evil.example"),
    ),
    Row(
        "another host's name is made to lead to this machine", AREA, "a request for evil.example",
        "403 evil.example is not this machine", asked("/api/flow_runs/", Host="evil.example"),
    ),
    Row(
        "the report's server gives out other files", AREA, "GET …/artifacts/report/../../params.yaml",
        "404 There is no such report.", asked("/workspace/artifacts/report/%2e%2e/%2e%2e/params.yaml"),
    ),
    Row(
        "a flow typed in a shell goes to the user's own Prefect", AREA,
        "a profile and an API key of the user's, and a home with both",
        "WORKSPACE/.runs/prefect '' None", own_prefect,
    ),
    Row(
        "a .env in the workspace leads to another Prefect", AREA, ".env with PREFECT_API_KEY and a database; make flow",
        ".env sets PREFECT_API_KEY, PREFECT_SERVER_DATABASE_CONNECTION_URL, which Prefect would take before this project's own",
        dotenv("reproduce"),
    ),
    Row(
        "the same .env under the dashboard", AREA, "make dashboard",
        "remove this from .env, or use your own Prefect: MQVAE_PREFECT=mine (exit 1)", dotenv("dashboard", "--port", "0"),
    ),
    Row(
        "a .env of other programs", AREA, "AWS_PROFILE=mine, a comment that names PREFECT_API_KEY",
        "taken as it is", other_dotenv,
    ),
    Row(
        "a misspelt choice of one's own Prefect is passed over", AREA, "MQVAE_PREFECT=own python -m pipelines.reproduce",
        "MQVAE_PREFECT=own: expected mine (your own Prefect profile), or nothing (this project's) (exit 1)",
        lambda field, folder: command(folder, "reproduce", MQVAE_PREFECT="own"),
    ),
    Row(
        "a run with settings of its own is killed, and the next run has them too", AREA,
        "a run with sample.guidance_scale=5 in params.yaml, killed with kill -9",
        "during: guidance_scale: 5   # 1 is unguided; after kill -9: params.yaml as before, to the byte", killed_run,
    ),
    Row(
        "edits of params.yaml during a run with settings of its own are lost, or the settings are", AREA,
        "the seed is edited, in an editor that had opened the file before",
        "reads: sample: guidance_scale: 5 # 1 is unguided seed: 7; afterwards: sample: guidance_scale: 3.0 # 1 is unguided seed: 7",
        edited_meanwhile,
    ),
    Row(
        "a setting of a run with a key that params.yaml has not", AREA, "-S sample.guidanec=5",
        "-S sample.guidanec=5: expected KEY=VALUE with a key of params.yaml", refused("sample.guidanec=5"),
    ),
    Row(
        "a setting of a run whose value two keys share changes both", AREA, "-S user.b=2 where user is an alias",
        "-S user.b=2: params.yaml shares this value by an anchor; write it there by hand", refused("user.b=2"),
    ),
)  # fmt: skip

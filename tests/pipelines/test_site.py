"""What the dashboard's server answers in Prefect's place, and what it adds to every answer; Prefect's app is a small one here."""

from pathlib import Path
from typing import Any

import pytest

starlette = pytest.importorskip("starlette", reason="Starlette comes with Prefect, which is not installed")

from starlette.applications import Starlette  # noqa: E402
from starlette.responses import HTMLResponse, JSONResponse  # noqa: E402
from starlette.routing import Route, WebSocketRoute  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402
from starlette.websockets import WebSocket, WebSocketDisconnect  # noqa: E402

from pipelines.home import PICTURES  # noqa: E402
from pipelines.site import SCRIPT, Site  # noqa: E402

HOST = "127.0.0.1:4321"


async def page(request: Any) -> HTMLResponse:
    return HTMLResponse("<html><head><title>Prefect</title></head></html>", headers={"ETag": "x"})


async def api(request: Any) -> JSONResponse:
    return JSONResponse({"path": request.url.path})


async def socket(connection: WebSocket) -> None:
    await connection.accept()
    await connection.send_text("an event")
    await connection.close()


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    """A client of a site over a workspace with a report and a picture."""
    files = {"artifacts/report/index.html": "the report", ".runs/sweep/arm/artifacts/report/index.html": "an arm's",
             ".runs/sweep/index.html": "a table", ".runs/sweep/results.json": "[]",
             PICTURES / "ab-grid.png": "png", "params.yaml": "secret", "artifacts/reported.txt": "x"}  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    routes = [WebSocketRoute("/api/events/out", socket), Route("/api/{rest:path}", api, methods=["GET", "POST"]),
              Route("/{rest:path}", page)]  # fmt: skip
    return TestClient(
        Site(Starlette(routes=routes), tmp_path), base_url=f"http://{HOST}", follow_redirects=False
    )


BROWSER = {"Accept": "text/html,*/*"}


def test_no_page_may_ask_another_host_whatever_is_asked(client: TestClient) -> None:
    for path in (
        "/",
        "/runs",
        "/api/flows",
        "/v2/runs",
        "/docs",
        "/workspace/artifacts/report/index.html",
        "/workspace/no",
    ):
        answer = client.get(path, headers=BROWSER)
        policy = dict(
            part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";")
        )
        sources = {word for name, words in policy.items() if name != "sandbox" for word in words.split()}
        allowed = {
            "'self'",
            "'none'",
            "'unsafe-eval'",
            "'unsafe-inline'",
            "data:",
            "blob:",
            f"ws://{HOST}",
            f"wss://{HOST}",
        }
        assert policy["default-src"] in ("'self'", "'none'") and sources <= allowed, path
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_second_interface_leads_back_to_the_first_and_pages_with_foreign_scripts_are_not_there(
    client: TestClient,
) -> None:
    for path, there in (("/v2", "/"), ("/v2/", "/"), ("/v2/deployments/deployment/1", "/deployments/deployment/1"),
                        ("/v2//evil.example", "/evil.example")):  # fmt: skip
        answer = client.get(path, headers=BROWSER)
        assert (answer.status_code, answer.headers["location"]) == (307, there)
    for path in ("/docs", "/redoc", "/api/docs", "/api/redoc", "/api/docs/oauth2-redirect"):
        assert client.get(path).status_code == 404
    assert client.get("/api/documents").json() == {"path": "/api/documents"}


def test_every_page_has_the_script_that_stops_links_and_nothing_else_is_changed(client: TestClient) -> None:
    answer = client.get("/deployments", headers=BROWSER | {"If-None-Match": "x", "Accept-Encoding": "gzip"})
    assert answer.status_code == 200 and "etag" not in answer.headers
    assert answer.text == f'<html><head><script src="{SCRIPT}"></script><title>Prefect</title></head></html>'
    assert (
        client.get(SCRIPT).text.startswith("//")
        and "javascript" in client.get(SCRIPT).headers["content-type"]
    )
    assert client.get("/api/x", headers=BROWSER).json() == {"path": "/api/x"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:9"}, 200),
        ({"Host": "[::1]:9"}, 200),
        ({"Host": "localhost:9", "Origin": "http://localhost:9"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:4322"}, 403),
        ({"Host": "evil.example:4321", "Origin": "http://evil.example:4321"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": ""}, 403),
    ],
)
def test_a_page_of_another_origin_or_under_another_name_is_refused(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.post("/api/flow_runs/", headers=headers).status_code == status


def test_events_pass_and_those_asked_for_by_a_foreign_page_do_not(client: TestClient) -> None:
    with client.websocket_connect(f"ws://{HOST}/api/events/out") as connection:
        assert connection.receive_text() == "an event"
    with (
        pytest.raises(WebSocketDisconnect, match="^$", check=lambda error: error.code == 1008),
        client.websocket_connect(f"ws://{HOST}/api/events/out", headers={"Origin": "http://evil.example"}),
    ):
        pass


def test_reports_and_pictures_are_served_and_nothing_else_of_the_disk(client: TestClient) -> None:
    for path, text in (("artifacts/report/index.html", "the report"), ("pictures/ab-grid.png", "png"),
                       (".runs/sweep/index.html", "a table"),
                       (".runs/sweep/arm/artifacts/report/index.html", "an arm's")):  # fmt: skip
        answer = client.get(f"/workspace/{path}")
        assert (answer.status_code, answer.text) == (200, text)
        assert answer.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    for path in ("params.yaml", "artifacts/report/../../params.yaml", "artifacts/report/%2e%2e/%2e%2e/params.yaml",
                 "artifacts/reported.txt", "artifacts/report", "pictures/../dashboard.json", "pictures/%2e%2e%2fdeploy.log",
                 ".runs/sweep/results.json", "/etc/passwd", "pictures/", "artifacts/report/%00"):  # fmt: skip
        assert client.get(f"/workspace/{path}").status_code == 404, path

"""Prefect's server as this project serves it: pages cannot contact other hosts, and reports and pictures have the same address.

    python -m pipelines.site --port 4200        what `make dashboard` starts

A wrapper around Prefect's ASGI app instead of a proxy: one process, one port, and web sockets pass through unchanged. It leaves
out the V2 interface (which contacts an analytics host) and the API's documentation pages (whose scripts are on other hosts),
sends a content security policy with every response, and refuses requests from pages of other origins.
"""

import argparse
import os
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pipelines.home import LOOPBACK, PICTURES

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

FILES = "/workspace/"
SHOWN = FILES + "pictures/"
SWEEP = Path(".runs/sweep/index.html")
"""The table of the last sweep."""
SCRIPT = FILES + "site.js"
DOCUMENTATION = re.compile(r"(/api)?/(docs|redoc)(/.*)?")
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' {sockets}; worker-src 'self' blob:; object-src 'none'; frame-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Policy for Prefect's pages. Their run graph compiles code for its shaders (`unsafe-eval`), and scripts set styles."""

REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""Policy for reports, which are single files, and for pictures."""

HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-DNS-Prefetch-Control": "off",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass
class Site:
    """The app.

    Attributes:
        app: Prefect's app.
        root: the workspace.
        hosts: host names accepted besides this machine's own.
    """

    app: Any
    root: Path
    hosts: Collection[str] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request or a web socket."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        ours = scope["path"].startswith(FILES)
        policy = REPORT_POLICY if ours else POLICY.format(sockets=_sockets(scope))
        guarded = _with_headers(send, HEADERS | {"Content-Security-Policy": policy})
        answer = self.answer(scope)
        if answer is not None:
            await (answer(scope, receive, guarded) if scope["type"] == "http" else _close(receive, send))
        elif scope.get("method") == "GET" and b"text/html" in _header(scope, b"accept"):
            await self.page(scope, receive, guarded)
        else:
            await self.app(scope, receive, guarded)

    def answer(self, scope: Scope) -> Any:
        """The response that replaces Prefect's, or None."""
        from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse

        path = scope["path"]
        if refusal := self.refusal(scope):
            return PlainTextResponse(refusal, 403)
        if path == "/v2" or path.startswith("/v2/"):
            return RedirectResponse(quote("/" + path[3:].lstrip("/")))
        if DOCUMENTATION.fullmatch(path):
            return PlainTextResponse(
                "Not available: this page's scripts are on other hosts. See /api/openapi.json\n", 404
            )
        if path.startswith(FILES):
            file = self.file(path)
            return FileResponse(file) if file else PlainTextResponse("There is no such report.\n", 404)
        return None

    def refusal(self, scope: Scope) -> str:
        """Why a request is refused, or "": it names another host, or comes from a page of another origin."""
        host = _header(scope, b"host").decode("latin-1")
        origin = _header(scope, b"origin").decode("latin-1")
        allowed = {*LOOPBACK, *self.hosts}
        if _name_of(host) not in allowed:
            return f"{host} is not this machine: use 127.0.0.1, or name the host in MQVAE_HOSTS before `make dashboard`.\n"
        if origin and origin.partition("://")[2] != host:
            return f"a page of {origin} may not ask this server.\n"
        return ""

    def file(self, path: str) -> Path | None:
        """A URL's file: in a report (the workspace's, an arm's), a sweep's table, a picture, or the script of every page."""
        if path == SCRIPT:
            return Path(__file__).with_suffix(".js")
        root = self.root.resolve()
        if path.startswith(SHOWN):
            picture = root / PICTURES / Path(path).name
            return picture if picture.is_file() else None
        asked = Path(os.path.normpath(root / path.removeprefix(FILES).lstrip("/")))
        report = asked.is_relative_to(root) and "artifacts/report" in asked.parent.as_posix()
        return asked if (report or asked == root / SWEEP) and asked.is_file() else None

    async def page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on the app's response; if it is a page, our script comes first."""
        plain = (b"accept-encoding", b"if-none-match", b"if-modified-since", b"range")
        asked = {**scope, "headers": [pair for pair in scope["headers"] if pair[0].lower() not in plain]}
        start: MutableMapping[str, Any] = {}
        body = bytearray()

        async def collect(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body"):
                html = any(
                    name.lower() == b"content-type" and b"html" in value for name, value in start["headers"]
                )
                whole = bytes(body).replace(
                    b"<head>", b'<head><script src="%s"></script>' % SCRIPT.encode(), 1
                )
                content = whole if html else bytes(body)
                kept = [
                    pair for pair in start["headers"] if pair[0].lower() not in (b"content-length", b"etag")
                ]
                length = (b"content-length", str(len(content)).encode())
                await send({**start, "headers": [*kept, length]})
                await send({"type": "http.response.body", "body": content})

        await self.app(asked, receive, collect)


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key.lower() == name), b"")


def _name_of(host: str) -> str | None:
    """The name in a `Host` header, without its port; None for one that cannot be read (a lone bracket)."""
    with suppress(ValueError):
        return urlsplit(f"//{host}").hostname
    return None


def _sockets(scope: Scope) -> str:
    """This address for web sockets, because not every browser includes it in 'self'."""
    host = _header(scope, b"host").decode("latin-1")
    return f"ws://{host} wss://{host}" if re.fullmatch(r"[\w.:\[\]-]+", host) else ""


def _with_headers(send: Send, headers: MutableMapping[str, str]) -> Send:
    """Send responses with these headers instead of the app's."""
    ours = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    names = {name for name, _ in ours}

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            others = [pair for pair in message.get("headers", []) if pair[0].lower() not in names]
            message = {**message, "headers": [*others, *ours]}
        await send(message)

    return sending


async def _close(receive: Receive, send: Send) -> None:
    """Refuse a web socket."""
    await receive()
    await send({"type": "websocket.close", "code": 1008})


def writes_wait() -> None:
    """Make each of Prefect's transactions that may write take SQLite's write lock at its start, and so wait for its turn.

    Prefect begins most of them as readers. A reader that wants to write after another transaction has written cannot wait: SQLite
    fails with "database is locked" at once, which lost clicks on Resume and workers' heartbeats.
    """
    from prefect.server.database.configurations import AioSqliteConfiguration

    begin = AioSqliteConfiguration.begin_transaction

    def at_once(self: Any, session: Any, with_for_update: bool = False) -> Any:
        return begin(self, session, with_for_update=True)

    AioSqliteConfiguration.begin_transaction = at_once


def main() -> None:
    """The command line: serve this folder's Prefect on loopback, in the dashboard's environment."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.site",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    port = parser.parse_args().port
    import prefect
    import uvicorn

    writes_wait()
    prefect.__ui_v2_static_path__ = Path("no such interface")  # so that no page offers or links to it
    from prefect.server.api.server import create_app

    hosts = [name.strip() for name in os.environ.get("MQVAE_HOSTS", "").split(",") if name.strip()]
    site = Site(create_app(final=True), Path().resolve(), hosts)
    uvicorn.run(site, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=2)


if __name__ == "__main__":
    main()

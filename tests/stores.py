"""Stores on loopback: a web server that knows no ranges, and an S3-compatible one; both can be stopped and started."""

import functools
import http.server
import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import until

_SERVERS: weakref.WeakSet[Any] = weakref.WeakSet()
"""Servers of this process. A loader's worker that is forked has their sockets too: it would take connections to a store that was
stopped and never answer them, and the store could not be started again."""


def _leave_to_parent() -> None:
    for server in list(_SERVERS):
        server.socket.close()


os.register_at_fork(after_in_child=_leave_to_parent)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    asked: list[str]

    def __init__(self, *args: Any, asked: list[str], **options: Any) -> None:
        self.asked = asked
        super().__init__(*args, **options)

    def log_message(self, format: str, *args: Any) -> None:
        self.asked.append(f"{self.command} {self.path}")


def listening(port: int) -> socket.socket:
    """A socket that listens on this port of loopback, or on a free one, as soon as no other process has it for a connection."""

    def bound() -> socket.socket | None:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind(("127.0.0.1", port))
        except OSError:
            made.close()
            return None
        made.listen(64)
        return made

    return until(bound, 60)


@dataclass
class Web:
    """A plain web server of a folder.

    Attributes:
        folder: what it serves.
        asked: the requests so far.
    """

    folder: Path
    port: int = 0
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        handler = functools.partial(_Quiet, directory=str(self.folder), asked=self.asked)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler, bind_and_activate=False)
        self.server.socket.close()
        self.server.socket = listening(self.port)
        self.port = self.server.socket.getsockname()[1]
        _SERVERS.add(self.server)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@dataclass
class S3:
    """moto's server, whose buckets outlive a stop, because they are in this process."""

    port: int = 0

    def start(self) -> None:
        from moto.moto_server.werkzeug_app import (
            DomainDispatcherApplication,
            MotoRequestHandler,
            create_backend_app,
        )
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        listener = listening(self.port)
        self.port = listener.getsockname()[1]
        app = DomainDispatcherApplication(create_backend_app)
        self.server = make_server(
            "127.0.0.1",
            self.port,
            app,
            threaded=True,
            request_handler=MotoRequestHandler,
            fd=listener.fileno(),
        )
        listener.close()  # the server has its own copy; this one would go on taking connections
        _SERVERS.add(self.server)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def files(self) -> Any:
        """As a user's own client sees it."""
        import s3fs

        return s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)

    def bucket(self, name: str, folder: Path | None = None) -> str:
        """A bucket with a folder's files; its URL."""
        files = self.files()
        files.mkdir(name)
        for path in sorted(folder.rglob("*")) if folder else []:
            if path.is_file():
                files.put_file(str(path), f"{name}/{path.relative_to(folder).as_posix()}")
        return f"s3://{name}"


def away(store: Web | S3, seconds: float) -> threading.Thread:
    """Stop a store now; the thread that is given starts it again after some seconds."""
    store.stop()

    def back() -> None:
        time.sleep(seconds)
        store.start()

    thread = threading.Thread(target=back)
    thread.start()
    return thread


@functools.cache
def one_store() -> S3:
    """The store of this process: s3fs keeps its clients, and with them the address that they were made for."""
    store = S3()
    store.start()
    return store


def environment_of(store: S3) -> dict[str, str]:
    """What a client needs to find a store."""
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    return keys | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{store.port}"}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> S3:
    """The store, in the environment; each test takes buckets of its own."""
    for name, value in environment_of(one_store()).items():
        monkeypatch.setenv(name, value)
    return one_store()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A web server of tmp_path/web."""
    (tmp_path / "web").mkdir()
    store = Web(tmp_path / "web")
    store.start()
    yield store
    store.stop()

"""Stores on loopback: a web server that knows no ranges, and an S3-compatible one; both can be stopped and started."""

import functools
import http.server
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


class _Quiet(http.server.SimpleHTTPRequestHandler):
    asked: list[str]

    def __init__(self, *args: Any, asked: list[str], **options: Any) -> None:
        self.asked = asked
        super().__init__(*args, **options)

    def log_message(self, format: str, *args: Any) -> None:
        self.asked.append(f"{self.command} {self.path}")


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
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@dataclass
class S3:
    """moto's server, whose buckets outlive a stop, because they are in this process."""

    port: int = 0

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()
        self.port = self.server.get_host_and_port()[1]

    def stop(self) -> None:
        self.server.stop()

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


@contextmanager
def away(store: Web | S3, seconds: float, after: float = 0.0) -> Iterator[None]:
    """Within the block the store is down for some seconds, in the middle of what happens there."""

    def stop_and_start() -> None:
        time.sleep(after)
        store.stop()
        time.sleep(seconds)
        store.start()

    thread = threading.Thread(target=stop_and_start)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """One server for all tests of a process; each takes buckets of its own."""
    store = S3()
    store.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.port}")
        yield store
    store.stop()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A web server of tmp_path/web."""
    (tmp_path / "web").mkdir()
    store = Web(tmp_path / "web")
    store.start()
    yield store
    store.stop()

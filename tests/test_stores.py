"""The stores that tests use: one that is stopped answers nobody."""

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.stores import S3, Web


@pytest.mark.parametrize("kind", ["web", "s3"])
def test_a_stopped_store_is_gone_and_comes_back_though_a_process_was_forked_meanwhile(
    kind: str, tmp_path: Path
) -> None:
    if kind == "s3":
        pytest.importorskip("moto", reason="moto is not installed")
    store = Web(tmp_path) if kind == "web" else S3()
    store.start()
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(told, b"1")  # only now has it given up what it has of the store
        signal.pause()
    try:
        assert os.read(ready, 1)
        store.stop()
        with pytest.raises(ConnectionRefusedError, match="refused"):
            socket.create_connection(("127.0.0.1", store.port), timeout=5)
        store.start()
        socket.create_connection(("127.0.0.1", store.port), timeout=5).close()
    finally:
        store.stop()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

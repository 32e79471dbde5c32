"""No connection leaves this machine, and nothing listens for others: an audit hook, for whole processes and their children.

`python -c "from tests.hostile.guard import install; install()"`, or a folder with `sitecustomize.py` (see `folder`) at the
front of PYTHONPATH: then every Python process of a workflow has it.
"""

import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import Any

LOG = "MQVAE_GUARD_LOG"
PAGE = '''"""Put there by the tests: see tests/hostile/guard.py."""
import importlib.util
spec = importlib.util.spec_from_file_location("guard", {path!r})
guard = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guard)
guard.install()
'''


def folder(place: Path) -> Path:
    """A folder for PYTHONPATH that guards every Python process."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "sitecustomize.py").write_text(PAGE.format(path=str(Path(__file__).resolve())), encoding="utf-8")
    return place


def install() -> None:
    """Guard this process."""
    sys.addaudithook(_watch)


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _is_rays():
        return
    if event in ("socket.connect", "socket.sendto", "socket.bind"):
        address = arguments[1]
        if event == "socket.connect" and arguments[0].type == socket.SOCK_DGRAM:
            return  # it sends nothing: how a program asks for its own address
        if isinstance(address, tuple) and not _is_here(str(address[0]), listens=event == "socket.bind"):
            _tell(f"{event} {address[0]}:{address[1]}")
            raise PermissionError(f"{event} to {address[0]} is refused by the tests' guard")
    elif event == "socket.getaddrinfo" and not _is_here(str(arguments[0] or ""), listens=False):
        _tell(f"{event} {arguments[0]}")
        raise PermissionError(f"a look-up of {arguments[0]} is refused by the tests' guard")


def _is_rays() -> bool:
    """Whether this is a process of Ray's own, which listens for its workers on the machine's address (docs/robustness.md)."""
    return any("/ray/" in word or word.startswith("ray::") for word in sys.argv[:1])


def _is_here(host: str, listens: bool) -> bool:
    """Whether an address is this machine's loopback ("" is: for a look-up nobody, for a listener everybody)."""
    if host in ("", "localhost"):
        return not (listens and host == "")
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


def _tell(text: str) -> None:
    if os.environ.get(LOG):
        descriptor = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(descriptor, f"{' '.join(sys.argv[:3])}: {text}\n".encode())
        os.close(descriptor)

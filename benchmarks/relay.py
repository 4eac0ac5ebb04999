"""Servers as if over a network: a process of its own that hands on each byte late.

Threads and `time.sleep`: the timers of an event loop count in milliseconds. What a delay really
comes to is told by a PING through the relay, which is why the rows that use it print one.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from threading import Thread
from time import monotonic, sleep

_CHUNK = 65_536


@contextmanager
def far(targets: Sequence[str], delay: float) -> Iterator[list[int]]:
    """Give a loopback port for each target, which is `host:port` or the path of a socket.

    Each byte takes `delay` seconds more, each way.
    """
    command = [sys.executable, "-m", "benchmarks.relay", str(delay), *targets]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield [int(port) for port in process.stdout.readline().split()]
        process.kill()


def main(delay: float, targets: Sequence[str]) -> None:
    """Say on which ports there is a relay, and serve them until standard input ends."""
    doors = [socket.create_server(("127.0.0.1", 0)) for _ in targets]
    for door, target in zip(doors, targets, strict=True):
        Thread(target=_serve, args=(door, target, delay), daemon=True).start()
    print(*(door.getsockname()[1] for door in doors), flush=True)
    sys.stdin.read()


def _serve(door: socket.socket, target: str, delay: float) -> None:
    while True:
        near, _ = door.accept()
        away = _connected(target)
        for one in (near, away):
            if one.family != socket.AF_UNIX:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink in ((near, away), (away, near)):
            late: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
            Thread(target=_take, args=(source, late, delay), daemon=True).start()
            Thread(target=_hand_on, args=(late, sink), daemon=True).start()


def _connected(target: str) -> socket.socket:
    if target.startswith("/"):
        found = socket.socket(socket.AF_UNIX)
        found.connect(target)
        return found
    host, _, port = target.rpartition(":")
    return socket.create_connection((host, int(port)))


def _take(source: socket.socket, late: SimpleQueue[tuple[float, bytes]], delay: float) -> None:
    data = b"?"
    while data:
        try:
            data = source.recv(_CHUNK)
        except OSError:
            data = b""
        late.put((monotonic() + delay, data))


def _hand_on(late: SimpleQueue[tuple[float, bytes]], sink: socket.socket) -> None:
    while True:
        due, data = late.get()
        if (left := due - monotonic()) > 0:
            sleep(left)
        with suppress(OSError):  # the other side has gone
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(data)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])

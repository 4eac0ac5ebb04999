"""A server as a child process of our own, which a test may stop, pause or kill.

The port is chosen once, so that a server which was killed comes back at the same URL, with its
folder's content. The folder goes with `close()`; processes left at the interpreter's end go too. If
it is killed, a child of theirs ends them, which then sees a pipe from us end.
"""

from __future__ import annotations

import atexit
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, ClassVar, Final, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

HOST: Final = "127.0.0.1"
PATIENCE: Final = 30.0  # seconds, for a start or an orderly stop on a busy machine

# A shell that becomes the server, and before that begins a child to watch over it. The child gets a
# line when it may go, and the end of the pipe without one when nobody is left to send it.
_WATCHED: Final = 'exec 3<&0 </dev/null; (read -r _line <&3 || kill -9 $$) & exec "$@" 3<&-'


def free_port() -> int:
    """Return a TCP port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Account(TypedDict, total=False):
    """The arguments of `subprocess` that name a user; without any, it is the present one."""

    user: int
    group: int
    extra_groups: list[int]


class ServerProcess:
    """One server: `start`, `stop`, `kill`, `pause`, `resume`, `restart`, `close`.

    A context manager: started on entry, closed on exit. Subclasses say what to run and how to
    ask whether it answers.
    """

    name: ClassVar[str] = "server"
    polite: ClassVar[signal.Signals] = signal.SIGTERM
    account: Account = {}  # whom to run as

    def __init__(self, *, port: int | None = None) -> None:
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"sqlmodel-cache-{self.name}-"))
        self._process: subprocess.Popen[bytes] | None = None
        _alive.add(self)

    def command(self) -> Sequence[str]:
        """Return the command line."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Ask the server something; False where it is not ready yet."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        """Tell whether the process exists (it may be paused)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Return the process id."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def log(self) -> Path:
        """Return the file with everything the server printed."""
        return self.folder / "log"

    def start(self) -> Self:
        """Start the server and return when it answers."""
        assert not self.running, f"{self.name} is running already"
        self.stop()  # it may have died by itself
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ("/bin/sh", "-c", _WATCHED, "sh", *self.command()),
                bufsize=0,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is for pytest
                **self.account,
            )
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self.name} did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """End the process in good order; the port and the folder stay."""
        self._end(self.polite)

    def kill(self) -> None:
        """End the process as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> Self:
        """Stop, if necessary, and start again at the same URL."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Freeze the process: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process run on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End the process and remove its folder."""
        self.stop()
        rmtree(self.folder, ignore_errors=True)
        _alive.discard(self)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(number)
        if number is not signal.SIGKILL:
            self.resume()  # a paused process hears nothing but SIGKILL
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE)
        self._dismiss(self._process)
        self._process = None

    @staticmethod
    def _dismiss(process: subprocess.Popen[bytes]) -> None:
        """Have the one who watches go; the number of the process may soon be another's."""
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(b"\n")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


_alive: weakref.WeakSet[ServerProcess] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for server in list(_alive):
        server.close()

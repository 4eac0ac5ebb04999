"""A URL -> stores for the sync and the async sessions of one process, built when first used.

The clients built here never make a request wait long: no retries, sub-second time-outs, no
health checks; what fails is the breaker's business. No message, repr or log has a password.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.transport.forks import tell_of_forks
from sqlmodel_cache.transport.memory import MemoryTransport
from sqlmodel_cache.transport.per_loop import PerLoopTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlmodel_cache.transport.lines import RedisLineTransport

TIME_OUT: Final = 0.5  # seconds, for a reply and for a connection
_UNBOUNDED: Final = 2**31


class MemoryPair:
    """`memory://`: one store for both kinds of sessions."""

    is_transport_pair: Final = True
    blocks: Final = False

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.sync = self.async_ = MemoryTransport(**options)

    def __repr__(self) -> str:
        return f"<MemoryPair {self.sync!r}>"

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""


class RedisPair:
    """`redis://`, `rediss://`, `unix://`: a pool for threads, and one per event loop."""

    is_transport_pair: Final = True
    blocks: Final = True

    def __init__(
        self,
        where: str,
        url: str,
        options: Mapping[str, Any],
        *,
        trust_failover: bool = False,
        local: Mapping[str, int] | None = None,
    ) -> None:
        self._where = where
        self._url = url
        self._options = dict(options)
        self._trusting = trust_failover
        self.local = local  # the bounds of the copies to keep in this process, if any
        self._lock = Lock()
        self._sync: RedisLineTransport | None = None
        self._async: PerLoopTransport | None = None
        tell_of_forks(self)

    def __repr__(self) -> str:
        return f"<RedisPair {self._where}>"

    @property
    def sync(self) -> RedisLineTransport:
        """The transport for threads."""
        from sqlmodel_cache.transport.lines import RedisLineTransport

        with self._lock:
            if self._sync is None:
                self._sync = RedisLineTransport(self._build_sync, trust_failover=self._trusting)
            return self._sync

    @property
    def async_(self) -> PerLoopTransport:
        """The transport for tasks, of whatever event loop runs."""
        with self._lock:
            if self._async is None:
                self._async = PerLoopTransport(self._build_async, trust_failover=self._trusting)
            return self._async

    def listener(self) -> Any:
        """Return a client for a line of one's own; it connects to nothing by itself."""
        return self._build_sync()

    def after_fork(self) -> None:
        """Forget who held the lock; the transports look after themselves."""
        self._lock = Lock()

    def close(self) -> None:
        """Close every connection made so far; the pair can be used again afterwards.

        Those of an event loop that runs at the moment close in its next turn.
        """
        with self._lock:
            sync, self._sync = self._sync, None
        if sync is not None:
            sync.close()
        if self._async is not None:
            self._async.close()

    async def aclose(self) -> None:
        """Close every connection made so far; those of the running loop are awaited."""
        if self._async is not None:
            await self._async.aclose()
        self.close()

    def _build_sync(self) -> Any:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return Redis.from_url(self._url, retry=Retry(NoBackoff(), 0), **self._options)

    def _build_async(self) -> Any:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        return Redis.from_url(self._url, retry=Retry(NoBackoff(), 0), **self._options)


TransportPair = MemoryPair | RedisPair


def open_url(url: str) -> TransportPair:
    """Return the stores behind `url`; connects to nothing yet.

    `memory://?max_entries=5000`, `redis://user:password@host:6379/0?socket_timeout=0.2`,
    `rediss://...?ssl_ca_certs=...`, `unix:///path/to/socket?db=1`. Time-outs are in seconds.

    Values that come back with an old dump, or with a replica that lagged, are misses; for this
    each new connection sends one `INFO`. `trust_failover=1` takes them for good, and is needed
    behind a proxy that spreads one connection over several servers.

    `local=10000` keeps so many copies in the process of rows of models with a `local_ttl`, and
    `local_bytes` bounds what they take; `local=0` keeps none.

    Raises `ConfigurationError` for an unknown scheme or option and for a value of a wrong type.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _OPTIONS:
        raise ConfigurationError(
            f"A cache URL begins with {', '.join(f'{known}://' for known in _OPTIONS)}; "
            f"this one does not{f' ({scheme}://)' if separator else ''}."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigurationError(
            f"The {scheme}:// URL of the cache has a broken host or port."
        ) from None
    options = _read_options(scheme, parts.query)
    if scheme == "memory":
        if parts.netloc or parts.path:
            raise ConfigurationError("memory:// takes options only: memory://?max_entries=5000")
        return MemoryPair(options)
    if scheme == "unix" and not parts.path:
        raise ConfigurationError("unix:// needs the path of a socket: unix:///run/redis.sock")
    if scheme != "unix":
        _check_database(scheme, parts.path)
    host = f"{parts.hostname or 'localhost'}:{port or 6379}" if scheme != "unix" else parts.path
    defaults = {
        "socket_timeout": TIME_OUT,
        "socket_connect_timeout": TIME_OUT,
        "max_connections": _UNBOUNDED,
        "health_check_interval": 0,
        "protocol": 2,
    }
    address = f"{scheme}://{parts.netloc}{parts.path}"
    trust_failover = options.pop("trust_failover", False)
    names = {"local", "local_bytes"} & options.keys()
    bounds = {name: options.pop(name) for name in names}
    return RedisPair(
        f"{scheme}://{host}",
        address,
        {**defaults, **options},
        trust_failover=trust_failover,
        local=_local_bounds(scheme, bounds),
    )


def _local_bounds(scheme: str, given: Mapping[str, Any]) -> dict[str, int] | None:
    if not given.get("local"):
        if "local_bytes" in given:
            raise ConfigurationError(
                f"The {scheme}:// URL bounds copies that nobody keeps: add local=10000, the number"
                " of copies, or leave local_bytes out."
            )
        return None
    names = {"local": "max_entries", "local_bytes": "max_bytes"}
    return {names[name]: number for name, number in given.items()}


def _check_database(scheme: str, path: str) -> None:
    if path.strip("/") and not path.strip("/").isdigit():
        raise ConfigurationError(
            f"The path of a {scheme}:// URL is the number of the database: {scheme}://host:6379/0"
        )


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _number(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def _yes(text: str) -> bool:
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[
        text.lower()
    ]


def _protocol(text: str) -> int:
    return {"2": 2, "3": 3}[text]


_SOCKET: Final[dict[str, Callable[[str], Any]]] = {
    "db": _number,
    "username": str,
    "password": str,
    "client_name": str,
    "socket_timeout": _seconds,
    "socket_connect_timeout": _seconds,
    "max_connections": _count,
    "protocol": _protocol,
    "trust_failover": _yes,
    "local": _number,
    "local_bytes": _count,
}
_TCP: Final[dict[str, Callable[[str], Any]]] = {**_SOCKET, "socket_keepalive": _yes}
_OPTIONS: Final[dict[str, dict[str, Callable[[str], Any]]]] = {
    "memory": {"max_entries": _count},
    "redis": _TCP,
    "rediss": {
        **_TCP,
        "ssl_ca_certs": str,
        "ssl_certfile": str,
        "ssl_keyfile": str,
        "ssl_cert_reqs": str,
        "ssl_check_hostname": _yes,
    },
    "unix": _SOCKET,
}


def _read_options(scheme: str, query: str) -> dict[str, Any]:
    known = _OPTIONS[scheme]
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise ConfigurationError(
                f"{scheme}:// has no option {name!r}; it has {', '.join(sorted(known))}."
            )
        try:
            options[name] = known[name](text)
        except (ValueError, KeyError):
            raise ConfigurationError(
                f"The option {name!r} of the {scheme}:// URL has a value that it cannot have."
            ) from None
    return options

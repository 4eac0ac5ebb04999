"""Redis through a `redis.Redis` or `redis.RedisCluster`, for threads."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlmodel_cache.protocol.ops import Fence, Get, Op, Release, Reply
from sqlmodel_cache.transport.clients import is_cluster, vet
from sqlmodel_cache.transport.commands import (
    PER_PIPELINE,
    Command,
    is_unknown_script,
    key_by_key,
    matching,
    plan,
    unlinking,
    with_source,
)
from sqlmodel_cache.transport.failures import is_moving
from sqlmodel_cache.transport.runs import ANY, judged, marked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redis import Redis


class RedisSyncTransport:
    """Speaks the full protocol through a client that is used as it is and never closed.

    `client` must return bytes (no `decode_responses`) and come from redis-py 5 or later;
    anything else raises `ConfigurationError`.

    Which connection serves a command is the client's secret, so values that come back with an
    old dump or a replica that lagged are not noticed here; over a URL they are (see `runs`).
    """

    _run = ANY
    dated = False  # the store's times are not known to be those of one server

    def __init__(self, client: Redis) -> None:
        vet(client, transport="RedisSyncTransport", is_async=False)
        self._client: Any = client
        self.cluster = is_cluster(client)

    def __repr__(self) -> str:
        return f"<RedisSyncTransport {type(self._client).__name__}>"

    def get(self, key: str) -> bytes | None:
        """Return cached bytes or None if the key does not exist."""
        found: bytes | None = self._client.get(key)
        return found

    def set(self, key: str, value: bytes, ttl: int) -> None:
        """Store `value` under `key` with an expiry of `ttl` seconds; none at all if it is 0."""
        if ttl > 0:
            self._client.set(key, value, ex=ttl)
        else:
            self._client.delete(key)

    def delete(self, *keys: str) -> None:
        """Remove one or more keys from the cache; without keys nothing is sent."""
        if keys:
            self._client.delete(*keys)

    def perform(self, op: Op) -> Any:
        """Carry out one operation and return its reply; raises what the client raises."""
        if type(op) is Get:  # the hot path: one plain command, no plan
            entry = op.entry
            value, epoch = self._client.execute_command("MGET", entry.value, entry.shard.epoch)
            return Reply(value, epoch)
        what = plan(marked(op, self._run), cluster=self.cluster)
        if type(op) is Fence or type(op) is Release:  # twice per commit, and nothing to be read
            try:
                for commands in what.pipelines:
                    self._send_known(commands)
            except Exception as error:
                if not is_moving(error):
                    raise
                for command in key_by_key(op):
                    self._send_known([command])
            return None
        replies: list[Any] = []
        runs = set()
        for commands in what.pipelines:
            received, run = self._send_known(commands)
            replies += received
            runs.add(run)
        return judged(what.read(replies), runs)

    def execute(self, *commands: Command) -> list[Any]:
        """Carry out plain commands in one round trip; their keys must lie in one slot.

        For what is not part of the protocol: counts that are published, questions of a doctor.
        """
        return self._send(list(commands))[0]

    def sweep(self, begin: str, end: str = "") -> Iterator[list[str]]:
        """Yield the keys that begin and end so, slice by slice, on every node of a Cluster.

        By SCAN: what comes or goes meanwhile may be missed, and a key may come twice.
        """
        found = self._client.scan_iter(match=matching(begin, end), count=PER_PIPELINE)
        while batch := [key.decode("utf-8", "replace") for key in islice(found, PER_PIPELINE)]:
            yield batch

    def unlink(self, keys: Sequence[str]) -> int:
        """Remove keys, which may lie in any slots; return how many there were."""
        return sum(self._send([command])[0][0] for command in unlinking(keys))

    def _send_known(self, commands: list[Command]) -> tuple[list[Any], bytes]:
        try:
            return self._send(commands)
        except Exception as error:
            if not is_unknown_script(error):
                raise
        return self._send(with_source(commands))

    def _send(self, commands: list[Command]) -> tuple[list[Any], bytes]:
        """Return the replies and the run of the server that gave them."""
        if len(commands) == 1:
            return [self._client.execute_command(*commands[0])], ANY
        with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return pipe.execute(), ANY

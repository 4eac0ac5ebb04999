"""A Redis Cluster of one's own: three nodes on this host, and a replica where a test wants one."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from redis import RedisCluster
from redis.cluster import ClusterNode
from redis.crc import key_slot

from tests.servers.choice import AskedFor, Unavailable, given_url
from tests.servers.process import HOST, free_port
from tests.servers.redis_server import VARIABLE, RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

SLOTS: Final = 16_384
PATIENCE: Final = 30.0  # seconds, for nodes to hear of each other


def cluster_node() -> RedisServer:
    """Return a node of a Cluster, not started yet; its bus would like a port above 65535."""
    options = {"enabled": "yes", "port": free_port(), "node-timeout": 2000}
    arguments = [part for name in options for part in (f"--cluster-{name}", str(options[name]))]
    return RedisServer("--repl-diskless-sync-delay", "0", *arguments)


def start_node(stack: ExitStack) -> RedisServer:
    """Start a `cluster_node`, which ends with `stack`.

    Raises `Unavailable` where none can be started; `AskedFor`, if a Redis was.
    """
    try:
        return stack.enter_context(cluster_node())
    except RuntimeError as error:
        kind = AskedFor if given_url(VARIABLE) else Unavailable
        raise kind(f"no node starts in cluster mode ({error})") from error


def until(true: Callable[[], bool]) -> None:
    """Wait for servers to hear of each other, or for a message to come."""
    till = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < till, "it never came"
        time.sleep(0.01)


class Cluster:
    """Three nodes, each with a third of the slots. A context manager; raises as `start_node`.

    Attributes:
        nodes: the three servers.
    """

    def __init__(self) -> None:
        self.nodes: list[RedisServer] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.nodes = [start_node(self._stack) for _ in range(3)]
        for number, node in enumerate(self.nodes):
            self.tell(node, "SET-CONFIG-EPOCH", number + 1)
            first, end = SLOTS * number // 3, SLOTS * (number + 1) // 3
            self.tell(node, "ADDSLOTS", *range(first, end))
        for other in self.nodes[1:]:
            self._introduce(other)
        until(lambda: all(self._is_whole(node, 3) for node in self.nodes))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _introduce(self, node: RedisServer) -> None:
        self.tell(self.nodes[0], "MEET", HOST, node.port, node.arguments[5])

    def _is_whole(self, node: RedisServer, nodes: int) -> bool:
        said = self.tell(node, "INFO")
        return said["cluster_state"] == "ok" and int(said["cluster_known_nodes"]) == nodes

    @staticmethod
    def tell(node: RedisServer, *command: Any) -> Any:
        """Send CLUSTER with these words to one node."""
        with node.client() as client:
            return client.execute_command(f"CLUSTER {command[0]}", *command[1:])

    def client(self, **options: Any) -> RedisCluster:
        """Return a new client of the whole; close it, or use it as a context manager."""
        node_at: Any = ClusterNode  # redis-py gives it no types
        start = [node_at(HOST, node.port) for node in self.nodes]
        return RedisCluster(startup_nodes=start, **options)

    def add_replica(self, node: RedisServer) -> RedisServer:
        """Start a node that copies `node`, and return when it has."""
        replica = start_node(self._stack)
        self._introduce(replica)
        until(lambda: self._is_whole(replica, 4))
        identity = self.tell(node, "MYID").decode()
        self.tell(replica, "REPLICATE", identity)

        def follows() -> bool:
            with replica.client() as client:
                return bool(client.info("replication").get("master_link_status") == "up")

        until(follows)
        return replica

    def node_of(self, key: str) -> RedisServer:
        """Return the node that had the slot of a key at the start."""
        return self.nodes[key_slot(key.encode()) * 3 // SLOTS]

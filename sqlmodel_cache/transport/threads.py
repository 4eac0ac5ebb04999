"""A blocking transport, asked from an event loop: in worker threads, so that the loop never waits.

It works, at the price of a thread's hand-over per operation; the log says so once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlmodel_cache.protocol.ops import Op
    from sqlmodel_cache.transport._protocols import OpTransport

logger = logging.getLogger("sqlmodel_cache")


class WorkerThreads:
    """The async face of a synchronous transport; `name` is what the advice calls it."""

    def __init__(self, transport: OpTransport, name: str) -> None:
        self._transport = transport
        self._name = name
        self._advised = False

    async def perform(self, op: Op) -> Any:
        """Carry out one operation in a worker thread; raises what the transport raises."""
        if not self._advised:
            self._advised = True
            logger.warning(
                "an AsyncSession met the synchronous cache transport %s: it is asked in worker"
                " threads. Configure a URL or an async transport, which need none.",
                self._name,
            )
        return await asyncio.to_thread(self._transport.perform, op)

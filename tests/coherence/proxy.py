"""A TCP proxy in a thread of its own, which can do to a connection what a network can.

A fault may be changed at any time, from any thread, and counts from the next chunk on. Chunks that
a fault swallowed are gone, as on a real line of which one side is dead.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from enum import Enum
from typing import Any, Final, Self

HOST = "127.0.0.1"


class Fault(Enum):
    """What happens to traffic."""

    NONE = "none"
    LATENCY = "latency"  # each chunk of a reply comes `latency` seconds late
    RESET = "reset"  # connections are reset, old and new
    TRUNCATE = "truncate"  # half of a reply, then the end
    BLACKHOLE = "blackhole"  # connections are accepted, and nothing passes
    ONE_WAY = "one-way partition"  # requests arrive, replies do not
    LOSE_REPLY = "lost reply"  # to the next request with `trigger` in it; then the end
    WITHHOLD_REPLY = "withheld reply"  # to that request; the connection stays
    LOSE_REQUEST = "lost request"  # the same request never arrives


_TRIGGERED: Final = (Fault.LOSE_REPLY, Fault.LOSE_REQUEST, Fault.WITHHOLD_REPLY)


class Proxy:
    """Stands before a port of this host. A context manager.

    Attributes:
        fault: what happens now.
        latency: seconds, for `LATENCY`.
        trigger: the bytes of a request that the last three faults wait for.
        triggered: set when that request was met.
        touched: connections made and requests sent so far.
    """

    def __init__(self, target: int) -> None:
        self.fault = Fault.NONE
        self.latency = 0.01
        self.trigger = b"COMMIT"
        self.triggered = threading.Event()
        self.touched = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        """The port to connect to."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, HOST, 0))
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Reset every connection there is."""
        self._run(self._cut())

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.touched += 1
        if self.fault is Fault.RESET:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(HOST, self._target)
        ends = {writer, back}
        self._writers |= ends
        lost = asyncio.Event()
        try:
            await asyncio.gather(
                self._up(reader, back, ends, lost), self._down(there, writer, ends, lost)
            )
        except (OSError, asyncio.CancelledError):  # cancelled at the proxy's own end only
            pass
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _up(self, reader: Any, back: Any, ends: set[Any], lost: asyncio.Event) -> None:
        """Pass requests on."""
        while chunk := await reader.read(65536):
            self.touched += 1
            fault = self.fault
            if fault is Fault.RESET:
                break
            if fault is Fault.BLACKHOLE:
                continue
            if fault in _TRIGGERED and self.trigger in chunk:
                lost.set()
                self.triggered.set()
                if fault is Fault.LOSE_REQUEST:
                    break
            back.write(chunk)
            await back.drain()
        for end in ends:
            end.transport.abort()

    async def _down(self, there: Any, writer: Any, ends: set[Any], lost: asyncio.Event) -> None:
        """Pass replies back."""
        while chunk := await there.read(65536):
            fault = self.fault
            if lost.is_set() and fault is Fault.WITHHOLD_REPLY:
                continue
            if fault is Fault.RESET or lost.is_set():
                break
            if fault in (Fault.BLACKHOLE, Fault.ONE_WAY):
                continue
            if fault is Fault.LATENCY:
                await asyncio.sleep(self.latency)
            if fault is Fault.TRUNCATE:
                writer.write(chunk[: len(chunk) // 2])
                await writer.drain()
                writer.close()
                break
            writer.write(chunk)
            await writer.drain()
        if self.fault is not Fault.TRUNCATE:
            for end in ends:
                end.transport.abort()

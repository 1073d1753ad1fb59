"""Idle connections to one engine, and the opening of new ones.

Last in, first out: the connection used a moment ago is the least likely to have been closed by the engine, and
the ones at the bottom grow old and leave. One timer sweeps them; it runs only while something is idle.
"""

import asyncio
from collections.abc import Awaitable, Callable

from vastproxy.services.errors import BackendConnectError, NoStreamLeft, StreamsFull, TunnelError, TunnelLost
from vastproxy.services.http1.headers import response_fields
from vastproxy.services.upstream.connection import UpstreamConnection

#: Opens one byte stream to the engine and hands it to the protocol that the factory makes.
Opener = Callable[[Callable[[], UpstreamConnection]], Awaitable[UpstreamConnection]]


class UpstreamPool:
    """The connections of one backend. `aclose` ends the idle ones; busy ones end with their requests."""

    def __init__(self, opener: Opener, *, connect_timeout_s: float, idle_s: float, max_idle: int) -> None:
        self._loop = asyncio.get_running_loop()  # asking for it costs a system call (CPython 3.11)
        self._opener = opener
        fields = response_fields()
        self._make = lambda: UpstreamConnection(fields)
        self._connect_timeout_s = connect_timeout_s
        self._idle_s = idle_s
        self._max_idle = max_idle
        self._idle: list[UpstreamConnection] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._idle)

    def take(self) -> UpstreamConnection | None:
        """A connection that has served before and may again, if there is one."""
        if not self._idle:
            return None
        since = self._loop.time() - self._idle_s
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since >= since and connection.may_serve():
                return connection
            connection.close()
        return None

    async def open(self) -> UpstreamConnection:
        """A new connection. Raises BackendConnectError: nothing was sent."""
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connection = await self._opener(self._make)
        except TimeoutError:
            raise BackendConnectError(
                f"no connection to the engine within {self._connect_timeout_s:g} s"
            ) from None
        except StreamsFull as error:
            raise NoStreamLeft(str(error)) from error
        except TunnelError as lost:
            failure = BackendConnectError(str(lost))
            failure.way_lost = isinstance(lost, TunnelLost)
            raise failure from lost
        if not connection.may_serve():  # it came to its end, or brought bytes, before there was a request
            connection.close()
            raise BackendConnectError("the engine accepted a connection and ended it at once")
        connection.home = self
        return connection

    def release(self, connection: UpstreamConnection) -> None:
        """Take a connection back after its response was read to the end; one that cannot go on is ended."""
        if self._closed or len(self._idle) >= self._max_idle or not connection.may_serve():
            connection.close()
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._idle_s, self._sweep)

    def aclose(self) -> None:
        """End the idle connections and take none back."""
        self._closed = True
        self.clear()

    def clear(self) -> None:
        """End the idle connections (the tunnel below them changed)."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _sweep(self) -> None:
        self._sweeper = None
        since = self._loop.time() - self._idle_s
        young: list[UpstreamConnection] = []
        for connection in self._idle:
            if connection.idle_since >= since and connection.may_serve():
                young.append(connection)
            else:
                connection.close()
        self._idle = young
        if young:
            oldest = min(connection.idle_since for connection in young)
            delay_s = max(oldest + self._idle_s - self._loop.time(), 0.0) + 0.01
            self._sweeper = self._loop.call_later(delay_s, self._sweep)

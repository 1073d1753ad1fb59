"""One SSH connection in the service of one backend: the HTTP connections that it carries, idle ones among them.

Connections belong to the tunnel under them. What comes back after an answer waits there for the next request, and
ends when its tunnel is retired: nothing new is sent over a way that has been given up.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from vastproxy.services.errors import TunnelLost
from vastproxy.services.tunnels.base import Path, Tunnel
from vastproxy.services.upstream.connection import UpstreamConnection
from vastproxy.services.upstream.pool import UpstreamPool
from vastproxy.settings.model import UpstreamSettings


class Carrier:
    """A tunnel and its streams. Retired, it takes no new ones and ends with the last."""

    __slots__ = ("_end", "_ended", "_limits", "_opening", "_pools", "_retired", "path", "streams", "tunnel")

    def __init__(self, tunnel: Tunnel, limits: UpstreamSettings, *, end: Callable[["Carrier"], None]) -> None:
        """`end` is called once when it is retired and carries nothing any more."""
        self.tunnel = tunnel
        self.path: Path = tunnel.address.path
        self.streams = 0
        """HTTP connections on it, idle ones too."""
        self._limits = limits
        self._end = end
        self._retired = self._ended = False
        self._pools: dict[int, UpstreamPool] = {}
        self._opening: set[asyncio.Timeout] = set()

    def __repr__(self) -> str:
        return f"<Carrier {self.tunnel!r} streams={self.streams}>"

    @property
    def is_usable(self) -> bool:
        """May new work take it?"""
        return not self._retired and self.tunnel.is_alive and not self.tunnel.is_doubted

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return sum(map(len, self._pools.values()))

    @property
    def busy(self) -> int:
        """Connections with a request on them."""
        return self.streams - self.idle

    def take(self, port: int) -> UpstreamConnection | None:
        """A connection to `port` that has served before and may again, if there is one."""
        pool = self._pools.get(port)
        return pool.take() if pool is not None else None

    async def open(self, port: int) -> UpstreamConnection:
        """A new connection to `port`. Raises BackendConnectError: nothing was sent."""
        pool = self._pools.get(port)
        if pool is None:
            limits = self._limits
            pool = self._pools[port] = UpstreamPool(
                partial(self._open, port),
                connect_timeout_s=limits.connect_timeout_s,
                idle_s=limits.pool_idle_s,
                max_idle=limits.pool_max_idle,
            )
        return await pool.open()

    def stall(self) -> None:
        """It owes an answer: who waits for a new connection is sent elsewhere, idle ones are not used again."""
        now = asyncio.get_running_loop().time()
        for limit in self._opening:
            limit.reschedule(now)
        for pool in self._pools.values():
            pool.clear()

    def retire(self) -> None:
        """There is a better way: end as soon as nothing is carried any more."""
        if not self._retired:
            self._retired = True
            for pool in self._pools.values():
                pool.aclose()
            self._end_if_idle()

    async def _open(self, port: int, factory: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        if not self.is_usable:
            raise TunnelLost(f"{self.tunnel.address} does not answer")
        try:
            async with asyncio.timeout(None) as limit:
                self._opening.add(limit)
                try:
                    connection = await self.tunnel.open(factory, port)
                finally:
                    self._opening.discard(limit)
        except TimeoutError:
            raise TunnelLost(f"{self.tunnel.address} does not answer") from None
        self.streams += 1
        connection.on_lost = self._stream_ended
        return connection

    def _stream_ended(self) -> None:
        self.streams -= 1
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._retired and self.streams == 0 and not self._ended:
            self._ended = True
            self._end(self)

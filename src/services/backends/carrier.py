"""One SSH connection in the service of one backend: the HTTP connections that it carries, idle ones among them.

Connections belong to the tunnel under them. What comes back after an answer waits there for the next request, and
ends when its tunnel is retired: nothing new is sent over a way that has been given up.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from vastproxy.services.errors import TunnelError, TunnelLost
from vastproxy.services.tunnels.base import Path, Tunnel
from vastproxy.services.upstream.connection import UpstreamConnection
from vastproxy.services.upstream.pool import UpstreamPool
from vastproxy.settings.model import UpstreamSettings

#: Time in the queue from which a connection has too much to carry: tokens that come so much later are seen.
QUEUE_S = 0.1
#: How many requests a queue of `QUEUE_S` weighs, where new work is to go.
_QUEUE_WEIGHT = 16
#: What queued so lately will do so again when its load is put on fewer connections.
LATELY_S = 60.0


class Carrier:
    """A tunnel and its streams. Retired, it takes no new ones and ends with the last."""

    __slots__ = (
        "_best_s",
        "_end",
        "_ended",
        "_last_s",
        "_limits",
        "_opening",
        "_opening_s",
        "_pools",
        "_queued_at",
        "_retired",
        "_weight",
        "path",
        "streams",
        "tunnel",
    )

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
        self._best_s = math.inf
        self._opening_s = 0.0
        self._last_s = 0.0
        self._queued_at = -math.inf
        self._weight = 1.0

    def __repr__(self) -> str:
        return f"<Carrier {self.tunnel!r} streams={self.streams}>"

    @property
    def is_usable(self) -> bool:
        """May new work take it?"""
        return not self._retired and self.tunnel.is_alive and not self.tunnel.is_doubted

    @property
    def is_alive(self) -> bool:
        """Has its tunnel not ended?"""
        return self.tunnel.is_alive

    @property
    def is_queueing(self) -> bool:
        """Does what is sent now wait behind what was sent before? sshd opens a stream at once: how much longer than at
        its best that has taken twice in a row is how much stands in the queue."""
        return self._opening_s > self._best_s + QUEUE_S

    @property
    def has_queued(self) -> bool:
        """Was `is_queueing` seen within the last minute?"""
        return asyncio.get_running_loop().time() - self._queued_at < LATELY_S

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return sum(map(len, self._pools.values()))

    @property
    def busy(self) -> int:
        """Connections with a request on them, or being opened for one."""
        return self.streams - self.idle + len(self._opening)

    @property
    def load(self) -> float:
        """How much it carries: requests, each with its share of the queue that they were last seen to make."""
        return self.busy * self._weight

    def take(self, port: int) -> UpstreamConnection | None:
        """A connection to `port` that has served before and may again, if there is one."""
        pool = self._pools.get(port)
        return pool.take() if pool is not None else None

    async def connect(self, port: int) -> UpstreamConnection:
        """A new connection to `port` for requests. Raises BackendConnectError: nothing was sent."""
        pool = self._pools.get(port)
        if pool is None:
            limits = self._limits
            pool = self._pools[port] = UpstreamPool(
                partial(self._stream, port),
                connect_timeout_s=limits.connect_timeout_s,
                idle_s=limits.pool_idle_s,
                max_idle=limits.pool_max_idle,
                cookies="cookie" in limits.pass_credentials,
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

    async def open(self, factory: Callable[[], UpstreamConnection], port: int) -> UpstreamConnection:
        """See `Tunnel.open`; counted. Ends with TunnelLost also when the tunnel is doubted meanwhile."""
        if not self.is_usable:
            raise TunnelLost(f"{self.tunnel.address} does not answer")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        is_alone = not self._opening  # of many at a time each waits for this process, and not for the line
        try:
            async with asyncio.timeout(None) as limit:
                self._opening.add(limit)
                try:
                    connection = await self.tunnel.open(factory, port)
                finally:
                    self._opening.discard(limit)
        except TimeoutError:
            raise TunnelLost(f"{self.tunnel.address} does not answer") from None
        if is_alone:
            now = loop.time()
            self._took(now - begun, now)
        self.streams += 1
        connection.on_lost = self._stream_ended
        return connection

    async def measure(self, port: int) -> None:
        """Open a stream and end it, so that `is_queueing` is known where kept connections serve. Raises nothing."""
        if not self._opening:  # else somebody is about to see it
            with suppress(TunnelError):
                (await self.open(UpstreamConnection, port)).abort()

    async def _stream(self, port: int, factory: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        return await self.open(factory, port)

    def _took(self, seconds: float, now: float) -> None:
        """A stream was opened in so long. A single slow one says little."""
        self._best_s = min(self._best_s, seconds)
        self._opening_s, self._last_s = min(seconds, self._last_s), seconds
        queue_s = self._opening_s - self._best_s
        self._weight = 1.0 + max(queue_s, 0.0) / QUEUE_S * _QUEUE_WEIGHT / max(self.busy, 1)
        if queue_s > QUEUE_S:
            self._queued_at = now

    def _stream_ended(self) -> None:
        self.streams -= 1
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._retired and self.streams == 0 and not self._ended:
            self._ended = True
            self._end(self)

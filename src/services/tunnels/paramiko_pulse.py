"""The pulse of a paramiko connection, as the sweeper feels it."""

import asyncio
from collections.abc import Callable

from vastproxy.services.tasks import Tasks
from vastproxy.services.threads import in_thread
from vastproxy.services.tunnels import tcp
from vastproxy.services.tunnels.paramiko_transport import SshTransport


class ParamikoPulse:
    """See `sweeper.Pulse`. A question is sent in a thread of its own, which ends when it is sent."""

    def __init__(
        self,
        transport: SshTransport,
        tasks: Tasks,
        *,
        is_busy: Callable[[], bool],
        doubt: Callable[[bool], None],
        die: Callable[[float], None],
    ) -> None:
        self._transport = transport
        self._tasks = tasks
        self._asking: asyncio.Task[None] | None = None
        self._is_busy = is_busy
        self.doubt = doubt
        self.die = die

    @property
    def received(self) -> int:
        return self._transport.received

    @property
    def is_busy(self) -> bool:
        return self._is_busy()

    def retransmits(self, *, is_asked: bool) -> int:
        return tcp.retransmits(self._transport.link)

    def ask(self) -> None:
        if (self._asking is None or self._asking.done()) and not self._tasks.closed:
            self._asking = self._tasks.spawn(in_thread(self._transport.ask, name="ssh keepalive"), name="ask")

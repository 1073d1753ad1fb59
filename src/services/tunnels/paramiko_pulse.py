"""The pulse of a paramiko connection, as the sweeper feels it."""

import asyncio
import math
from collections.abc import Callable

from vastproxy.services.tasks import Tasks
from vastproxy.services.threads import in_thread
from vastproxy.services.tunnels import tcp
from vastproxy.services.tunnels.delivery import Delivery
from vastproxy.services.tunnels.liveness import Question
from vastproxy.services.tunnels.paramiko_transport import SshTransport


class ParamikoPulse:
    """See `sweeper.Pulse`. A question is sent in a thread of its own, which ends when it is sent, or when it finds that
    the socket takes no more; then another thread tries at the next look."""

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
        self._delivery = Delivery(transport.link)
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

    def question(self) -> Question:
        if self._delivery.is_unwritten:
            self._try()
        return self._delivery.look()

    def ask(self) -> None:
        self._delivery.asked(math.inf)
        self._try()

    def _try(self) -> None:
        if (self._asking is None or self._asking.done()) and not self._tasks.closed:
            self._asking = self._tasks.spawn(self._ask(), name="ask")

    async def _ask(self) -> None:
        if await in_thread(self._transport.ask, name="ssh keepalive"):
            self._delivery.written()

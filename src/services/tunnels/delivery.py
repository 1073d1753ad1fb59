"""Where a question is that was sent behind much else: still in our own queue, or with the other side's TCP."""

from collections.abc import Callable
from math import inf

from vastproxy.services.tunnels import tcp
from vastproxy.services.tunnels.liveness import Question


class Delivery:
    """Follows one question of a connection on its way: the first one that has not arrived.

    A question has a place in the stream of bytes that we send, and has arrived when TCP acknowledges that place. A
    relay that ends TCP on the way acknowledges in the other side's stead; what waits there is not seen.
    """

    __slots__ = ("_acked", "_acknowledged", "_place", "_queued", "_sock")

    def __init__(
        self,
        sock: tcp.Socket | None,
        *,
        acknowledged: Callable[[tcp.Socket], int | None] = tcp.acknowledged,
        queued: Callable[[tcp.Socket], int | None] = tcp.queued,
    ) -> None:
        self._sock = sock
        self._acknowledged = acknowledged
        self._queued = queued
        self._acked = 0
        #: Where the question ends; infinite until it is written; None when nothing is followed.
        self._place: float | None = None

    @property
    def is_unwritten(self) -> bool:
        """Is a question followed that `written` has not been called for?"""
        return self._place == inf

    def asked(self, unwritten: float) -> None:
        """A question was asked, and so many bytes, its own among them, are not with our TCP yet; infinite: that will be
        known when `written` is called."""
        end = self._end()
        if end is None:
            self._place = None
        elif self._place is None or self._acked >= self._place:
            self._place = end + unwritten

    def written(self) -> None:
        """All of the question is with our TCP now."""
        if self._place == inf:
            self._place = self._end()

    def look(self) -> Question:
        """Where it is now. "Moving" is what was acknowledged since the last look, or since `asked`."""
        if self._place is None or self._sock is None:
            return Question.ARRIVED
        acked = self._acknowledged(self._sock)
        if acked is None or acked >= self._place:
            self._place = None
            return Question.ARRIVED
        if acked == self._acked:
            return Question.STANDING
        self._acked = acked
        return Question.MOVING

    def _end(self) -> int | None:
        """Where the next byte will be that is given to our TCP. What is acknowledged in between is missed: too early
        a place does little harm."""
        if self._sock is None:
            return None
        acked, queued = self._acknowledged(self._sock), self._queued(self._sock)
        if acked is None or queued is None:
            return None
        self._acked = acked
        return acked + queued

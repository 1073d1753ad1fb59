"""How often we may call: vast.ai counts calls per endpoint and identity.

Facts: vast.ai API documentation, `x-rate-limit` of each call, 2026-08.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `calls` calls in `period_s` seconds."""

    period_s: float
    calls: int = 1


#: Documented limits. Label, start and stop are one endpoint: PUT on the instance.
LIMITS: Mapping[str, Limit] = {
    "instances.list": Limit(1.0),
    "instances.show": Limit(2.0),
    "instances.update": Limit(1.0),
    "instances.reboot": Limit(1.0),
    "instances.destroy": Limit(3.0),
    "ssh.attach": Limit(1.0),
    "offers.search": Limit(60.0, calls=10),
}
#: For endpoints whose limit is not documented: the most frequent of the documented ones.
DEFAULT_LIMIT = Limit(1.0)
#: Added to every period, since our clock and the way to vast.ai are not exact. The limits fail hard.
MARGIN = 1.1


class _Gate:
    """One endpoint: who waits, the first of whom may call, and when the last calls ended."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.queue: deque[object] = deque()
        self.ends: deque[float] = deque()


class Limiter:
    """Keeps the calls of all threads to one endpoint apart, first come, first served.

    The time between two calls runs from the end of one to the start of the next: then the first of them,
    slowed down by connecting, cannot come closer to the second on its way to the server. `scale` is a
    factor on the periods; 0 switches the limiter off.
    """

    def __init__(
        self,
        *,
        scale: float = 1.0,
        limits: Mapping[str, Limit] = LIMITS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object],
    ) -> None:
        self._scale = scale * MARGIN
        self._limits = limits
        self._clock = clock
        self._sleep = sleep
        self._gates: dict[str, _Gate] = {}
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, endpoint: str) -> Iterator[None]:
        """Wait for this caller's turn at the endpoint and hold it: the call is made inside."""
        if self._scale == 0:
            yield
            return
        with self._lock:
            gate = self._gates.setdefault(endpoint, _Gate())
        caller = object()
        with gate.changed:
            gate.queue.append(caller)
        try:
            with gate.changed:
                gate.changed.wait_for(lambda: gate.queue[0] is caller)
            self._keep_apart(gate, self._limits.get(endpoint, DEFAULT_LIMIT))
            try:
                yield
            finally:
                gate.ends.append(self._clock())
        finally:
            with gate.changed:
                gate.queue.remove(caller)
                gate.changed.notify_all()

    def waiting(self, endpoint: str) -> int:
        """How many callers are at the endpoint: the one whose turn it is, and those behind."""
        with self._lock:
            gate = self._gates.get(endpoint)
        return 0 if gate is None else len(gate.queue)

    def _keep_apart(self, gate: _Gate, limit: Limit) -> None:
        # Only the holder of the turn touches `ends`.
        while len(gate.ends) > limit.calls:
            gate.ends.popleft()
        if len(gate.ends) == limit.calls:
            wait_s = gate.ends[0] + limit.period_s * self._scale - self._clock()
            if wait_s > 0:
                self._sleep(wait_s)

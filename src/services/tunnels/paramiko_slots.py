"""How many streams the sshtunnel engine carries at once, in the whole process.

sshtunnel's own relay waits in select(), which cannot watch a descriptor above FD_SETSIZE (1024): of 400 streams
asked for, 338 worked and the others broke without a word (measured with sshtunnel 0.4). Our relay does without
select, but keeps to that number: each stream costs two threads and two descriptors, and a process often may
have 1,024 descriptors, of which a proxied request takes a third for its client. Who is turned away is told.
"""

import logging
import resource
import threading
import time
from collections.abc import Callable

from vastproxy.services.errors import StreamsFull

logger = logging.getLogger(__name__)

#: Below the 338 that worked, and below a third of 1,024 by what the process needs for itself.
MAX_STREAMS = 330
#: Descriptors that a stream must leave for everything else: logs, the API, clients, new SSH connections.
SPARE_DESCRIPTORS = 64
#: How often a full engine says so in the log.
WARN_EVERY_S = 60.0


def descriptor_limit() -> int:
    """How many descriptors this process may have open now (the soft limit; `ulimit -n`)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


class Slots:
    """The places for streams. Taken on the event loop, freed from any thread."""

    def __init__(
        self,
        limit: int = MAX_STREAMS,
        *,
        descriptors: Callable[[], int] = descriptor_limit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self._descriptors = descriptors
        self._clock = clock
        self._lock = threading.Lock()
        self._in_use = 0
        self._refused = 0
        self._warned_at: float | None = None

    @property
    def in_use(self) -> int:
        """Streams that are open, opening or closing now."""
        return self._in_use

    @property
    def refused(self) -> int:
        """Streams turned away since the start of the process."""
        return self._refused

    def take(self, who: str) -> None:
        """Take a place for a stream of `who`. Raises StreamsFull when there is none."""
        with self._lock:
            if self._in_use < self.limit:
                self._in_use += 1
                return
        raise self._full(
            f"all {self.limit} streams that the sshtunnel engine carries in one process are in use", who
        )

    def free(self) -> None:
        """Give a place back."""
        with self._lock:
            self._in_use -= 1

    def require_descriptors(self, newest: int, who: str) -> None:
        """See that enough descriptors are left, judged by the number that was just given out.

        The kernel gives out the lowest number that is free. Raises StreamsFull.
        """
        limit = self._descriptors()
        if newest >= limit - SPARE_DESCRIPTORS:
            raise self._full(
                f"the process is near its limit of {limit} open files (ulimit -n), "
                "of which each stream of the sshtunnel engine takes two",
                who,
            )

    def _full(self, why: str, who: str) -> StreamsFull:
        with self._lock:
            self._refused += 1
            refused, now = self._refused, self._clock()
            is_time = self._warned_at is None or now - self._warned_at >= WARN_EVERY_S
            if is_time:
                self._warned_at = now
        advice = "set tunnels.engine to asyncssh, which has no such limit"
        if is_time:
            logger.warning("%s (streams refused since the start: %d); %s", why, refused, advice)
        return StreamsFull(f"{who}: {why}; {advice}")

"""Requests that are over, on their way to a collector: a bounded queue, and a thread that sends them.

The event loop only puts a request there. A collector that is slow or away costs spans, never time or memory.
"""

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from vastproxy.services.dispatch.claim import Claim, Lease
from vastproxy.services.http1.grammar import Header
from vastproxy.services.tracing.context import attempt_id, lines_for, parent_of, trace_of
from vastproxy.services.tracing.ended import Ended

logger = logging.getLogger(__name__)

#: Requests sent in one call, and how long one waits for others.
BATCH = 256
INTERVAL_S = 1.0
#: How long the end of the process may wait for the collector.
CLOSE_LIMIT_S = 3.0


class Outlet(Protocol):
    """The way to a collector."""

    def send(self, ended: Sequence[Ended]) -> str | None:
        """Called by one thread, may block. Returns why they could not be sent, in a line for a person; None if they
        were."""

    def stop(self) -> None:
        """From another thread: end what is under way soon. Nothing is sent any more."""


class Tracing:
    """See the module's docstring. All methods are for the event loop's thread, except `close`, which blocks.

    sample_ratio, propagate and queue: see `TracingSettings`.
    """

    def __init__(
        self,
        outlet: Outlet,
        *,
        sample_ratio: float = 1.0,
        propagate: bool = False,
        queue: int = 4096,
        interval_s: float = INTERVAL_S,
        secret: bytes | None = None,
    ) -> None:
        self._outlet = outlet
        self._sample_ratio = sample_ratio
        self.propagate = propagate
        """Are engines to be told `lines`?"""
        self._limit = queue
        self._interval_s = interval_s
        self._secret = secrets.token_bytes(16) if secret is None else secret
        self._queue: deque[Ended] = deque()
        self.lost = 0
        """Requests whose traces were lost since the start."""
        self._lost = 0
        self._failing = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Tracing waiting={len(self._queue)} lost={self._lost}>"

    def lines(self, claim: Claim, lease: Lease, headers: Iterable[Header]) -> bytes:
        """What the engine of this attempt is told of the trace, as header lines. `headers`: of the request."""
        parent = parent_of(headers)
        trace = trace_of(claim, parent, secret=self._secret, sample_ratio=self._sample_ratio)
        return lines_for(trace, attempt_id(trace, lease))

    def ended(
        self,
        claim: Claim,
        headers: Iterable[Header],
        path: bytes,
        key: str | None,
        model: str | None,
        tokens_in: int | None,
        tokens_out: int | None,
        streamed: bool,
        client: str,
    ) -> None:
        """A request is over, and its claim will not change any more. See `Ended`."""
        parent = parent_of(headers)
        trace = trace_of(claim, parent, secret=self._secret, sample_ratio=self._sample_ratio)
        if not trace.sampled or self._closing.is_set():
            return
        if len(self._queue) >= self._limit:
            self._lost += 1
            self.lost += 1
            return
        self._queue.append(Ended(claim, trace, path, key, model, tokens_in, tokens_out, streamed, client))
        if not self._wake.is_set():
            self._wake.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tracing", daemon=True)
                self._thread.start()

    def close(self, *, limit_s: float = CLOSE_LIMIT_S) -> None:
        """Send what there is, for so long; then it is forgotten. May be called again."""
        self._closing.set()
        self._wake.set()
        deadline = time.monotonic() + limit_s
        if self._thread is not None:
            self._thread.join(limit_s * 2 / 3)
        self._outlet.stop()
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))

    # -- the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._closing.wait(self._interval_s)
            self._wake.clear()
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
                self._note(self._outlet.send(batch), len(batch))
            if self._closing.is_set() and not self._queue:
                return

    def _note(self, error: str | None, count: int) -> None:
        """Say so once when it begins to fail, and once when it works again."""
        if error is not None:
            self._lost += count
            self.lost += count
            if not self._failing:
                logger.warning("traces cannot be sent, and are lost until they can: %s", error)
            self._failing = True
            return
        lost, self._lost = self._lost, 0
        if self._failing or lost:
            logger.info("traces are sent again; those of %d requests were lost", lost)
        self._failing = False

"""A client has left: the engine is told to stop, and only then its stream is closed.

SGLang is the reason for the order. Up to 0.4 it looks for a closed stream every few seconds; 0.5.18 forgets the
request when the stream of its answer is closed but goes on generating, and then ignores an abort as well. Every
other engine stops when the stream closes.
"""

import asyncio
import logging
from collections.abc import Callable

from vastproxy.services.backends.engines import EngineKind, Fetch, abort_request
from vastproxy.services.backends.fetch import request_headers
from vastproxy.services.errors import ServiceError
from vastproxy.services.tasks import Tasks

logger = logging.getLogger(__name__)

#: The stream is closed this long after the client left even if the engine has not acknowledged the abort. Opening a
#: channel and asking take two round trips, 0.4 s to the other side of the world and more on a line that is busy; a busy
#: SGLang is not stopped sooner by losing its stream, and 0.5.18 is not stopped at all by an abort that comes after it.
CLOSE_AFTER_S = 1.5
#: What one abort may take altogether, the wait for its turn included.
LIMIT_S = 2.0
#: Aborts under way at a time; each is a channel of an SSH connection.
MAX_PARALLEL = 64
#: Aborts under way or waiting. Beyond, streams are closed without.
MAX_WAITING = 1024


class Aborter:
    """Owns the aborts under way. All methods belong to the event loop's thread."""

    def __init__(
        self,
        *,
        close_after_s: float = CLOSE_AFTER_S,
        limit_s: float = LIMIT_S,
        max_parallel: int = MAX_PARALLEL,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._close_after_s = close_after_s
        self._limit_s = limit_s
        self._max_waiting = max_waiting
        self._turns = asyncio.Semaphore(max_parallel)
        self._tasks = Tasks("abort")

    def __len__(self) -> int:
        """Aborts under way or waiting."""
        return len(self._tasks)

    def __bool__(self) -> bool:
        return True  # one without work is still one

    def abort(
        self,
        fetch: Fetch,
        kind: EngineKind,
        port: int,
        rid: str | None,
        *,
        token: str | None,
        close: Callable[[], None],
    ) -> None:
        """End the request that the engine on `port` knows as `rid`, then its stream by calling `close`.

        Returns at once and never raises. `close` is called exactly once, whatever happens: at once when there is
        nothing to be told (another engine, no id, too much going on, closed), else when the engine has answered, when
        the time is over, or when this owner is closed. Failures are no more than a debug line.
        """
        told = rid is not None and abort_request(kind) is not None
        if not told or self._tasks.closed or len(self._tasks) >= self._max_waiting:
            close()
            return
        assert rid is not None
        once = _Once(close)
        timer = asyncio.get_running_loop().call_later(self._close_after_s, once)
        task = self._tasks.spawn(self._abort(fetch, kind, port, rid, token), name=f"{kind}:{port}")
        task.add_done_callback(lambda _: timer.cancel())
        task.add_done_callback(lambda _: once())

    async def aclose(self) -> None:
        """Give up what is under way; every stream is closed."""
        await self._tasks.aclose(limit_s=self._limit_s)

    async def _abort(self, fetch: Fetch, kind: EngineKind, port: int, rid: str, token: str | None) -> None:
        route = abort_request(kind)
        assert route is not None
        path, body = route
        headers = {**request_headers(token), "content-type": "application/json"}
        try:
            async with asyncio.timeout(self._limit_s), self._turns:
                answer = await fetch(
                    port, path, method="POST", headers=headers, body=body(rid), timeout_s=self._limit_s
                )
        except (ServiceError, TimeoutError) as error:
            logger.debug("port %d could not be told to abort %r: %s", port, rid, error or "no answer in time")
        else:
            if answer.status != 200:
                logger.debug("port %d answered %d when told to abort %r", port, answer.status, rid)


class _Once:
    """Calls `work` the first time it is called."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work: Callable[[], None] | None = work

    def __call__(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work()

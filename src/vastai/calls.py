"""Making a call: its turn, its retries, its record, and what its answer means."""

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from vastproxy.vastai.config import VastConfig
from vastproxy.vastai.errors import VastError, VastProtocolError, VastUnavailable, wrap_vast_error
from vastproxy.vastai.limits import Limiter
from vastproxy.vastai.monitor import Monitor
from vastproxy.vastai.reply import Reply, one_line
from vastproxy.vastai.retry import next_pause_s
from vastproxy.vastai.transport import Call, Transport


class Caller:
    """Calls vast.ai on behalf of all threads.

    `sleep` waits in retries and for limits. By default it ends at once when `close` is called, so that
    nobody who leaves has to wait for a backoff.
    """

    def __init__(
        self,
        config: VastConfig,
        transport: Transport,
        monitor: Monitor,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._config = config
        self._transport = transport
        self._monitor = monitor
        self._closed = threading.Event()
        self._clock = clock
        self.sleep: Callable[[float], object] = self._closed.wait if sleep is None else sleep
        self._rng = rng or random.Random()
        self._limiter = Limiter(scale=config.min_interval_scale, clock=clock, sleep=self.sleep)

    def run(self, call: Call, *, tries: int | None = None) -> Any:
        """The JSON of the answer. Raises VastError when every try (settings, or `tries`) has failed."""
        return self._run(call, tries)[0]

    def time(self, call: Call) -> float:
        """Make the call once: how long the exchange took in seconds, without the wait for a turn."""
        return self._run(call, 1)[1]

    def fetch_public(self, name: str, url: str, *, doing: str) -> Reply:
        """A file that vast.ai keeps elsewhere, asked for once and without the key, whatever its status."""
        self._check_open(doing)
        with self._monitor.track(name):
            return self._transport.fetch_public(url, doing=doing)

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        """Refuse further calls, wake who sleeps, close idle connections."""
        self._closed.set()
        self._transport.close()

    def _run(self, call: Call, tries: int | None) -> tuple[Any, float]:
        retries = self._config.retries
        if tries is not None:
            retries = retries.model_copy(update={"attempts": tries})
        attempt, maybe_done = 0, False
        while True:
            attempt += 1
            try:
                return self._attempt(call)
            except VastError as error:
                if maybe_done and call.gone_is_done and error.code.startswith("no_such_"):
                    return None, 0.0
                maybe_done = maybe_done or isinstance(error, (VastUnavailable, VastProtocolError))
                pause_s = next_pause_s(error, attempt, retries, self._rng)
                if pause_s is None or self._closed.is_set():
                    raise
            self.sleep(pause_s)

    def _attempt(self, call: Call) -> tuple[Any, float]:
        self._check_open(call.doing)
        with self._limiter.turn(call.endpoint):
            self._check_open(call.doing)
            with self._monitor.track(call.name):
                reply = self._transport.send(call)
                return self._understand(reply, call.doing), reply.elapsed_s

    def _understand(self, reply: Reply, doing: str) -> Any:
        secrets = (self._config.api_key,)
        if not 200 <= reply.status < 300:
            raise wrap_vast_error(reply, doing=doing, secrets=secrets, key_source=self._config.key_source)
        try:
            answer = reply.json()
        except ValueError as error:
            kind = "a web page" if reply.is_html else "something that is no JSON"
            raise VastProtocolError(
                f"vast.ai answered with {kind} while {doing}; check VAST_URL if it lasts",
                original=error,
                http_status=reply.status,
                excerpt=one_line(reply.text, secrets=secrets),
            ) from error
        if isinstance(answer, dict) and answer.get("success") is False:
            raise wrap_vast_error(reply, doing=doing, secrets=secrets, key_source=self._config.key_source)
        return answer

    def _check_open(self, doing: str) -> None:
        if self._closed.is_set():
            raise VastUnavailable(f"the vast.ai client was closed while {doing}", "closed", False)

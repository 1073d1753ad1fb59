"""The figures of a fleet: kept up by `tick`, which a job calls twice a second, and looked at by whoever shows them.

Nothing here is done when a request ends: it is all differences of counters that exist anyway. A tick takes some
microseconds, each twentieth some more for each backend, in slices.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from vastproxy.services.backends.backend import Backend
from vastproxy.services.events import FleetEvent
from vastproxy.services.live.backend_figures import BackendFigures, Gpus, gpus_of
from vastproxy.services.live.counts import NOTHING, Counts, counts_of, ttft_quantile_s
from vastproxy.services.live.endings import Endings, learn
from vastproxy.services.live.failures import FailureFilter
from vastproxy.services.live.flow import Flow
from vastproxy.services.live.history import STEP_S, STEPS, History, Point, point_json
from vastproxy.services.live.window import Window
from vastproxy.services.metrics.requests import RequestMetrics
from vastproxy.services.traces import Traces

#: Time between two ticks.
TICK_S: Final = 0.5
#: Over which rates are means, and over which shares and percentiles are taken.
RATE_S: Final = 10.0
LONG_S: Final = 300.0
_LONG_STEPS: Final = round(LONG_S / STEP_S)
#: Backends that are looked at before others have their turn: 0.3 ms.
_AT_ONCE: Final = 50


class Requests(Protocol):
    """The part of a dispatcher that is looked at."""

    @property
    def in_flight(self) -> int: ...
    @property
    def waiting(self) -> int: ...


class Live:
    """See the module's docstring. All of it belongs to the event loop's thread.

    url: where the proxy is to be found by clients, if whoever serves has said so.
    row_parts, total_parts: what others add to the figures of a backend and of the fleet: fields by name. They only look
    at what is there, and are asked once for each backend and overview.
    """

    def __init__(
        self,
        backends: Mapping[int, Backend],
        requests: Requests,
        traces: Traces,
        publish: Callable[[FleetEvent], None],
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.backends = backends
        self.url: str | None = None
        self.row_parts: list[Callable[[Backend], Mapping[str, Any]]] = []
        self.total_parts: list[Callable[[], Mapping[str, Any]]] = []
        self._requests = requests
        self._endings = Endings(traces)
        self._publish = publish
        self._clock = clock
        self._wall_clock = wall_clock
        self._metrics: RequestMetrics | None = None
        self._began = clock()
        self._flow = Flow(self._tokens_of)
        self._failures = FailureFilter()
        self._homes: deque[tuple[int, int]] = deque([(0, 0)], maxlen=_LONG_STEPS + 1)
        """Requests with a place of their own, and those that went there, in each step; the last one is not over."""
        self._short = Window(RATE_S, self._began, NOTHING, limit=64)
        self._long = Window(LONG_S, self._began, NOTHING, limit=_LONG_STEPS + 8)
        self._step = -1
        """The last step that is over."""
        self._at_step = NOTHING
        self._history = History()
        self._by_id: dict[int, BackendFigures] = {}

    def follow(self, metrics: RequestMetrics) -> None:
        """Where requests are counted. Without it there are no rates."""
        self._metrics = metrics

    # ── keeping up ─────────────────────────────────────────────────────────────────────────────

    async def tick(self) -> None:
        """Look at what has changed. To be called every `TICK_S` seconds; later is less exact, nothing worse."""
        now = self._clock()
        if len(self._by_id) != len(self.backends):
            for backend in self.backends.values():
                self._figures(backend)
        self._hear_of_endings(now)
        if now - self._short.newest_at >= 2 * TICK_S - 0.1:
            self._short.add(now, self._flowing())
        step = int((now - self._began) / STEP_S) - 1
        if step > self._step:
            self._step = step
            await self._end_step(step, now)

    def _hear_of_endings(self, now: float) -> None:
        """Publish failures, count who went home."""
        ended = self._endings.take()
        self._flow.look(self._endings.open)
        if ended:
            self._flow.ended(ended)
            learnt = learn(ended)
            homes, hits = self._homes[-1]
            self._homes[-1] = (homes + learnt.homes, hits + learnt.hits)
            for id, times_s in learnt.times_s.items():
                if (backend := self.backends.get(id)) is not None:
                    self._figures(backend).add_times(times_s)
            for failure in learnt.failures:
                self._failures.add(failure, now)
        for failure in self._failures.due(now):
            self._publish(failure)

    async def _end_step(self, step: int, now: float) -> None:
        counts = self._flowing()
        before, self._at_step = self._at_step, counts
        self._long.add(now, counts)
        self._homes.append((0, 0))
        all_gpus = Gpus()
        dollars, healthy = 0.0, 0
        for number, id in enumerate(tuple(self.backends)):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            if (backend := self.backends.get(id)) is None:
                continue
            gpus = gpus_of(backend)
            all_gpus.add(gpus)
            dollars += backend.instance.hourly_cost or 0.0
            healthy += backend.available
            self._figures(backend).end_step(step, self._clock(), gpus)
        for id in [id for id in self._by_id if id not in self.backends]:
            del self._by_id[id]
            self._flow.forget(id)
        ttft_s = ttft_quantile_s(before, counts, 0.5)
        self._history.add(
            step,
            Point(
                max(counts.requests - before.requests, 0),
                max(counts.errors - before.errors, 0),
                max(counts.tokens_in - before.tokens_in, 0),
                max(counts.tokens_out - before.tokens_out, 0),
                None if ttft_s is None else ttft_s * 1000,
                self._requests.in_flight,
                self._requests.waiting,
                all_gpus.percent,
                all_gpus.memory_percent,
                dollars,
                healthy,
            ),
        )

    def _figures(self, backend: Backend) -> BackendFigures:
        found = self._by_id.get(backend.id)
        if found is None or found.backend is not backend:
            found = self._by_id[backend.id] = BackendFigures(backend, self._flow.of, self._clock())
        return found

    def _tokens_of(self, instance_id: int) -> int:
        answers = None if self._metrics is None else self._metrics.answers.get(instance_id)
        return 0 if answers is None else answers.tokens_out

    # ── telling ────────────────────────────────────────────────────────────────────────────────

    def counts(self) -> Counts:
        """All requests that have ended."""
        return NOTHING if self._metrics is None else counts_of(self._metrics)

    def _flowing(self) -> Counts:
        """The same, with the tokens of answers as they come."""
        counts = self.counts()
        return replace(counts, tokens_out=counts.tokens_out + self._flow.untold)

    def totals(self) -> dict[str, Any]:
        """The figures of the whole fleet; those that others add are among them."""
        self._flow.look(self._endings.open)
        counts, now = self._flowing(), self._clock()
        short_at, short = self._short.oldest
        long_at, long = self._long.oldest
        short_s, long_s = max(now - short_at, 1.0), max(now - long_at, 1.0)
        dollars = sum(backend.instance.hourly_cost or 0.0 for backend in self.backends.values())
        tokens = counts.tokens_in + counts.tokens_out - long.tokens_in - long.tokens_out
        hourly_tokens = tokens / long_s * 3600
        told = {
            "in_flight": self._requests.in_flight,
            "waiting": self._requests.waiting,
            "requests_per_s": _rate(short.requests, counts.requests, short_s),
            "errors_per_s": _rate(short.errors, counts.errors, short_s),
            "tokens_in_per_s": _rate(short.tokens_in, counts.tokens_in, short_s),
            "tokens_out_per_s": _rate(short.tokens_out, counts.tokens_out, short_s),
            "sticky_share": self._sticky_share(),
            "requests": counts.requests,
            "errors": counts.errors,
            "tokens_in": counts.tokens_in,
            "tokens_out": self.counts().tokens_out,
            "dollars_per_hour": round(dollars, 4),
            "dollars_per_million_tokens": round(dollars / hourly_tokens * 1e6, 4)
            if hourly_tokens > 0
            else None,
            "ttft_p50_ms": _ms(ttft_quantile_s(long, counts, 0.5)),
            "ttft_p99_ms": _ms(ttft_quantile_s(long, counts, 0.99)),
        }
        for part in self.total_parts:
            told.update(part())
        return told

    def row(self, backend: Backend) -> dict[str, Any]:
        """The figures of one backend; those that others add are among them."""
        told = self._figures(backend).told(self._clock())
        for part in self.row_parts:
            told.update(part(backend))
        return told

    def history(self, minutes: float, *, instance_id: int | None = None) -> Iterator[dict[str, Any]]:
        """The steps of the last so many minutes, the oldest first: of the fleet, or of one backend.

        Raises KeyError for an instance that is not served.
        """
        one = None if instance_id is None else self._figures(self.backends[instance_id])
        history = self._history if one is None else one.history
        return self._points(history, self._step + 1 - min(max(round(minutes * 60 / STEP_S), 0), STEPS))

    def _points(self, history: History, first: int) -> Iterator[dict[str, Any]]:
        began_unix = self._wall_clock() - (self._clock() - self._began)
        for step, point in history.rows(first):
            yield point_json(point, began_unix + (step + 1) * STEP_S)

    def _sticky_share(self) -> float | None:
        homes = sum(each for each, _ in self._homes)
        return round(sum(hits for _, hits in self._homes) / homes, 4) if homes else None


def _rate(before: int, after: int, seconds: float) -> float:
    return round(max(after - before, 0) / seconds, 3)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)

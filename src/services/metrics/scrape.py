"""One scrape: the whole page as Prometheus reads it, made in slices so that no token has to wait for it.

A thousand backends with eight GPUs each are 75,000 lines and 5 MB. They are made in slices of about a millisecond,
between which everybody else has a turn. Whoever asks while a page is being made waits for the next one, together with
all others who do: however many ask, one page is made at a time.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from vastproxy import __version__
from vastproxy.services.metrics import families, left_families
from vastproxy.services.metrics.backend_text import Columns
from vastproxy.services.metrics.cost_text import cost_text
from vastproxy.services.metrics.exposition import END, Family, Form, block, labelled, sample
from vastproxy.services.metrics.metrics import Metrics
from vastproxy.services.metrics.process import registry_text
from vastproxy.services.metrics.readings import AccountReading, RoutingReading
from vastproxy.services.metrics.request_text import request_text
from vastproxy.services.metrics.watch_families import TRACES_LOST
from vastproxy.services.snapshot import BackendSnapshot, FleetSummary

#: Work after which others have their turn.
SLICE_S: Final = 0.001


class Watched(Protocol):
    """The part of a fleet that a scrape looks at."""

    @property
    def in_flight(self) -> int: ...
    @property
    def backend_ids(self) -> tuple[int, ...]: ...
    def summary(self) -> FleetSummary: ...
    def each_backend(self) -> Iterator[BackendSnapshot]:
        """Every backend, each as it is when its turn comes; one that has gone by then is left out."""
        ...


@dataclass(frozen=True, slots=True)
class _Made:
    asked_at: float
    page: tuple[bytes, ...]


class Scrape:
    """Makes pages of one process. Belongs to one event loop."""

    def __init__(
        self,
        metrics: Metrics,
        fleet: Watched,
        *,
        routing: Callable[[], RoutingReading] = RoutingReading,
        account: Callable[[], AccountReading] = AccountReading,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`routing` and `account` are asked for each page, on the loop, so they only look at what is there."""
        self._metrics = metrics
        self._fleet = fleet
        self._routing = routing
        self._account = account
        self._clock = clock
        self._turns = {form: asyncio.Lock() for form in Form}
        self._made: dict[Form, _Made] = {}
        self._waiting = dict.fromkeys(Form, 0)

    async def page(self, form: Form) -> tuple[bytes, ...]:
        """The page in pieces, begun after this was called."""
        asked_at = self._clock()
        self._waiting[form] += 1
        try:
            async with self._turns[form]:
                made = self._made.get(form)
                if made is None or made.asked_at < asked_at:
                    made = self._made[form] = _Made(self._clock(), await self._make(form))
                return made.page
        finally:
            self._waiting[form] -= 1
            if not self._waiting[form]:
                self._made.pop(form, None)  # nobody is left who might share it

    async def _make(self, form: Form) -> tuple[bytes, ...]:
        process = await registry_text(self._metrics.registry, form)
        pieces: list[bytes] = []
        began = self._clock()
        for text in self._text(form):
            if text:
                pieces.append(text.encode("utf-8", "replace"))
            if self._clock() - began > SLICE_S:
                await asyncio.sleep(0)
                began = self._clock()
        pieces.append(process.encode())
        if form is Form.OPENMETRICS:
            pieces.append(END.encode())
        return tuple(pieces)

    def _text(self, form: Form) -> Iterator[str]:
        """All of ours. Each step does little work, also those that yield nothing to say."""
        served = frozenset(self._fleet.backend_ids)
        yield from request_text(self._metrics.requests, form, served)
        yield from self._proxy(form)
        yield from self._vast(form)
        columns = Columns()
        for backend in self._fleet.each_backend():
            columns.add(backend)
            yield ""
        yield from columns.text(form)

    def _proxy(self, form: Form) -> Iterator[str]:
        routing = self._routing()
        yield from block(
            families.BUILD, form, [sample(families.BUILD.name, labelled(version=__version__), 1)]
        )
        yield from _numbers(
            form,
            (families.IN_FLIGHT, self._fleet.in_flight),
            (families.EJECTIONS, routing.ejections),
            (families.EJECTED, routing.ejected),
            (families.RETRY_BUDGET, routing.retry_budget),
            (families.TASKS, len(asyncio.all_tasks())),
            (families.THREADS, threading.active_count()),
            (TRACES_LOST, self._metrics.traces_lost()),
        )
        yield from _counts(families.WAITING, form, routing.waiting.items())

    def _vast(self, form: Form) -> Iterator[str]:
        summary, account = self._fleet.summary(), self._account()
        api = summary.vast_api
        yield from _numbers(
            form,
            (families.API_UP, None if api.status == "unknown" else int(api.status == "healthy")),
            (families.API_LATENCY, None if api.latency_ms is None else api.latency_ms / 1000),
            (left_families.CREDIT, account.credit_dollars),
            (left_families.CREDIT_LEFT, account.lasts_s),
        )
        if account.totals is not None:
            yield from cost_text(account.totals, form)
        yield from self._metrics.vast_api.text(form)
        yield from self._metrics.happened.text(form)
        states = [(state, count) for state, count in summary.backends.items() if state != "total"]
        yield from _counts(families.BACKENDS, form, states)


def _numbers(form: Form, *values: tuple[Family, float | None]) -> Iterator[str]:
    """Families with a single sample; those of an unknown value are left out."""
    for family, value in values:
        if value is not None:
            yield from block(family, form, [sample(family.name, "", value)])


def _counts(family: Family, form: Form, counts: Iterable[tuple[str, int]]) -> Iterator[str]:
    """A family whose samples differ in its one label."""
    label: Sequence[str] = family.labels
    return block(
        family, form, [sample(family.name, labelled(**{label[0]: name}), number) for name, number in counts]
    )

"""The fleet: every backend, its tunnel, and who serves the next request. The one thing that api, jobs and cli talk to.

It owns all state below it, and it has three entrances:

- `sync()` takes the account's instance list and makes the backends match it (called by jobs.sync);
- `tend(id)` lets one backend look after itself for a round (called by jobs.probe);
- `dispatcher` gives a request its place at an engine (asked by api.proxy).
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType

from vastproxy.services.account import Account
from vastproxy.services.actions import Actions
from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.keeping import KeeperTools
from vastproxy.services.backends.state import Event, State
from vastproxy.services.dispatch.dispatcher import Dispatcher
from vastproxy.services.drains import Drains
from vastproxy.services.events import Heard, PathChanged, PollFailed, StateChanged
from vastproxy.services.happenings import EventBus
from vastproxy.services.labels import Labels
from vastproxy.services.live.live import Live
from vastproxy.services.roster import Roster
from vastproxy.services.routing.models import Listed
from vastproxy.services.snapshot import (
    BackendSnapshot,
    FleetSnapshot,
    FleetSummary,
    VastApiSnapshot,
    snapshot_backend,
    summarise,
)
from vastproxy.services.sync import SetLabel
from vastproxy.services.tasks import Tasks
from vastproxy.services.threads import in_thread
from vastproxy.services.timeleft import time_left
from vastproxy.services.traces import Traces
from vastproxy.services.tunnels.base import Path, TunnelEngine
from vastproxy.settings import Settings
from vastproxy.vastai import Instance, VastClient, VastError
from vastproxy.vastai.handlers.events import Decision, Verdict

logger = logging.getLogger(__name__)

#: After the last instance has gone another one is expected for so long: a host that is replaced takes minutes.
REPLACED_S = 600.0
#: What is reported of a backend when its engines were just looked at.
_PROBED = frozenset({Event.SERVING, Event.FAILING})


class Fleet:
    """See the module's docstring. Every method but `__init__` belongs to one running event loop."""

    def __init__(
        self,
        settings: Settings,
        client: VastClient,
        tunnels: TunnelEngine,
        *,
        engine_token: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """`engine_token`: bearer for engines instead of each instance's own. The client is closed by `aclose`."""
        self.settings = settings
        self.events = EventBus()
        self._client = client
        self.account = Account(client, clock=clock, publish=self.events.publish)
        self._tunnels = tunnels
        self.clock = clock
        self.traces = Traces(settings.routing.remembered_requests, clock=clock, wall_clock=time.time)
        """What became of the last requests."""
        self._tasks = Tasks("fleet")
        self._serving: set[int] = set()
        """Ids of the backends that may be given requests."""
        self._had_any_at = float("-inf")
        self._listed_at: float | None = None
        self._vast_api = VastApiSnapshot("unknown", None, None)
        self._started_at = clock()
        self._stopping = False
        rng, publish = rng or random.Random(), self.events.publish
        tools = KeeperTools(tunnels, settings, self._tasks, clock, rng, self._path_changed)
        self.dispatcher = Dispatcher(
            settings,
            clock=clock,
            rng=rng,
            publish=publish,
            expects=self._expects_somebody,
            why_nobody=lambda: self.summary().reason or "the proxy is stopping",
            doubt=self._probe_at_once,
        )
        self._drains = Drains(ahead_s=settings.fleet.drain_before_end_s, clock=clock)
        self._roster = Roster(tools, engine_token=engine_token, watch=self._backend_event, publish=publish)
        self._backends = self._roster.backends
        self.live = Live(self._backends, self.dispatcher, self.traces, publish, clock=clock)
        self.actions = Actions(client, self._roster, tunnels, publish=publish)
        """What a person may have done to an instance."""
        self._labels = Labels(
            client, wanted=self._wanted_labels, written=self._roster.label_written, publish=publish
        )

    async def __aenter__(self) -> "Fleet":
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def start(self) -> None:
        """Begin to keep labels in step. Polling and probing are jobs and are started by who composes the program."""
        self._tasks.spawn(self._labels.run(), name="labels")

    async def aclose(self, *, clear_labels: bool = True) -> None:
        """End: nobody is available from now on, labels of ours are cleared, tunnels are closed. Bounded in time."""
        self._stopping = True
        self._serving.clear()
        self.dispatcher.aclose()
        if clear_labels:
            await self._labels.finish()
        for keeper in self._roster:
            keeper.backend.step(Event.VANISHED, self.clock(), "the proxy is stopping")
        await self._tasks.aclose()
        await self._roster.aclose()
        await self._tunnels.close()
        self._client.close()

    def hurry(self) -> None:
        """Somebody does not want to wait: `aclose` spends a second on labels from now on, also if it has begun."""
        self._labels.hurry()

    # ── requests ───────────────────────────────────────────────────────────────────────────────

    @property
    def in_flight(self) -> int:
        """Leases that have not been given back."""
        return self._roster.in_flight

    def models(self) -> list[Listed]:
        """The models that can be asked for now, and the aliases of them, each with the instances that serve it."""
        needs = self.dispatcher.targets.needs
        return needs.models.listing(needs.offered)

    # ── the account ────────────────────────────────────────────────────────────────────────────

    async def sync(self, *, fresh: bool = False) -> None:
        """Read the instance list once and make the backends match it. A failed read changes nothing but the news.

        `fresh`: no answer that was kept. Before the first list an old one, kept by another proxy, is better than none.
        """
        began = self.clock()
        stale_s = self.settings.cache.stale_s if self._listed_at is None else 0.0
        read = partial(self._client.list_instances, fresh=fresh, stale_s=stale_s)
        try:
            instances = await in_thread(read, name="vast-list")
        except VastError as error:
            self._poll_failed(str(error))
            return
        if instances.instead_of is not None:
            self._poll_failed(f"{instances.instead_of} (the last good one is {instances.age_s:.0f} s old)")
            self.apply(tuple(instances), complete=False)
            return
        self._listed_at = self.clock()
        self._vast_api = VastApiSnapshot("healthy", round((self._listed_at - began) * 1000, 1), None)
        self.apply(tuple(instances), complete=instances.skipped == 0)

    def apply(self, instances: tuple[Instance, ...], *, complete: bool = True) -> None:
        """Make the backends match a list. In one that is not `complete`, absence says nothing."""
        if not self._stopping:
            self.account.listed(instances)
            had_any = len(self._roster) > 0
            self._roster.apply(instances, complete=complete)
            if had_any or len(self._roster):
                self._had_any_at = self.clock()
            self._labels.poke()

    def hear(self, decision: Decision) -> None:
        """Somebody says that something has happened; see `vastai.handlers.events`. Waits for nothing."""
        if self._stopping or decision.verdict is Verdict.NOTHING:
            return
        for instance_id in decision.instance_ids:
            if (keeper := self._roster.get(instance_id)) is None:
                continue
            backend = keeper.backend
            if decision.verdict is Verdict.SUSPECT and backend.state is State.HEALTHY:
                backend.step(Event.SUSPECTED, self.clock(), f"{decision.reason}; waiting for a probe")
            keeper.wake.set()
        self.events.publish(Heard(decision))

    def _poll_failed(self, why: str) -> None:
        self._vast_api = VastApiSnapshot("unhealthy", None, why)
        self.events.publish(PollFailed(why))

    # ── looking after backends ─────────────────────────────────────────────────────────────────

    @property
    def backend_ids(self) -> tuple[int, ...]:
        """The backends there are, those on their way out not among them."""
        return self._roster.ids

    async def tend(self, instance_id: int) -> None:
        """One round of looking after one backend; one that is gone is nobody's business."""
        if (keeper := self._roster.get(instance_id)) is not None and not self._stopping:
            self._drains.look(keeper)
            await keeper.tend()

    def wake(self, instance_id: int) -> asyncio.Event:
        """Set when the next round of this backend should not wait for its time. Raises KeyError."""
        return self._roster[instance_id].wake

    def drain(self, instance_id: int) -> None:
        """No new requests for this backend; running ones end in peace. Raises KeyError."""
        self._drains.drain(self._roster[instance_id])

    def undrain(self, instance_id: int) -> None:
        """Take `drain` back: it serves again after the next good probe, which comes at once. Raises KeyError."""
        self._drains.undrain(self._roster[instance_id])

    # ── telling ────────────────────────────────────────────────────────────────────────────────

    def summary(self) -> FleetSummary:
        """How the fleet is, in a few words: costs next to nothing, however many backends there are."""
        return summarise(
            [keeper.backend.state for keeper in self._roster],
            serving=len(self._serving),
            api=self._vast_api,
            listed_at=self._listed_at,
            started_at=self._started_at,
            now=self.clock(),
        )

    def each_backend(self) -> Iterator[BackendSnapshot]:
        """Every backend, each as it is when its turn comes; one that has gone by then is left out."""
        for instance_id in self._roster.ids:
            if self._roster.get(instance_id) is not None:
                yield self.backend(instance_id)

    def backend(self, instance_id: int) -> BackendSnapshot:
        """One of them. Raises KeyError."""
        keeper, ahead_s = self._roster[instance_id], self.settings.fleet.drain_before_end_s
        left = time_left(keeper.backend.instance, self.account.snapshot(), time.time(), ahead_s)
        return snapshot_backend(keeper.backend, keeper.reach, self.clock(), left)

    def snapshot(self) -> FleetSnapshot:
        """The fleet as it is now, with all that is known of every backend."""
        brief, backends = self.summary(), tuple(self.each_backend())
        return FleetSnapshot(brief.status, brief.reason, brief.uptime_s, brief.vast_api, backends)

    @property
    def can_serve(self) -> bool:
        """Would a request find a backend now?"""
        return bool(self._serving)

    # ── reactions ──────────────────────────────────────────────────────────────────────────────

    def _backend_event(self, backend: Backend, before: State, cause: Event, detail: str) -> None:
        self._look_at(backend, probed=cause in _PROBED)
        if backend.state is not before:
            self.events.publish(StateChanged(backend.id, before, backend.state, cause, detail))
            self._labels.poke()

    def _path_changed(self, backend: Backend, path: Path | None, detail: str) -> None:
        self._look_at(backend)
        self.events.publish(PathChanged(backend.id, path.value if path else None, detail))

    def _look_at(self, backend: Backend, *, probed: bool = False) -> None:
        """Something happened to one backend. What it says of itself alone decides whether it may be given requests."""
        if self._backends.get(backend.id) is not backend:
            self.dispatcher.targets.forget(backend)
            if backend.id not in self._backends:
                self._serving.discard(backend.id)
                self._drains.forget(backend.id)
            return  # on its way out; the id may be another one's by now
        serving = backend.available and not self._stopping
        (self._serving.add if serving else self._serving.discard)(backend.id)
        self.dispatcher.targets.refresh(backend, serving=serving, probed=probed)

    def _probe_at_once(self, instance_id: int) -> None:
        if (keeper := self._roster.get(instance_id)) is not None:
            keeper.wake.set()

    def _expects_somebody(self) -> bool:
        """May somebody who could serve come back, or come at all?"""
        if self._stopping:
            return False
        if self._listed_at is None and not len(self._roster):
            return self._vast_api.status != "unhealthy"
        return len(self._roster) > 0 or self.clock() - self._had_any_at <= REPLACED_S

    def _wanted_labels(self) -> list[SetLabel]:
        return self._roster.no_labels() if self._stopping else self._roster.wanted_labels()

"""Keeps the ways to one instance open, and says which of them new work takes. Acts; `tunnels.paths` decides.

Direct and relay are dialled, watched and lost independently of each other. Whatever happens to one of them, new work
takes the best that is left in the same moment; a backend that can be reached somehow is never out of the pool.
Where one SSH connection has much to carry, more are opened over the same path.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

from vastproxy.services.backends import lanes
from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.carrier import Carrier
from vastproxy.services.backends.dials import Dials, Outcome, Race
from vastproxy.services.backends.keeping import KeeperTools
from vastproxy.services.backends.refusals import Refusals
from vastproxy.services.backends.state import Event
from vastproxy.services.errors import TunnelError
from vastproxy.services.tunnels import paths
from vastproxy.services.tunnels.addresses import target_of
from vastproxy.services.tunnels.backoff import Backoff
from vastproxy.services.tunnels.base import Path, Tunnel, TunnelTarget
from vastproxy.services.tunnels.paths import PathEvent, PathRecord, PathState
from vastproxy.vastai.types import Instance

logger = logging.getLogger(__name__)


class Reach:
    """The SSH connections to one instance. `changed` is called when new work takes another path, or none."""

    def __init__(self, backend: Backend, tools: KeeperTools, *, changed: Callable[[], None]) -> None:
        self.wake = asyncio.Event()
        """Set when `tend` should run soon."""
        self.records = {path: PathRecord() for path in Path}
        self.refusals = Refusals(backend.id, tools.clock)
        """Why attempts came to nothing."""
        self._backend = backend
        self._tools = tools
        self._changed = changed
        self._settings = tools.settings.tunnels
        self._backoff = Backoff(self._settings.backoff_min_s, self._settings.backoff_max_s)
        self._carriers: dict[Path, list[Carrier]] = {path: [] for path in Path}
        self._open: set[Carrier] = set()
        self._dials = Dials(tools.engine, tools.tasks, str(backend.id), ended=self._dialled)
        self._lane: asyncio.Task[None] | None = None
        self._upgrade_at = float("-inf")
        self._settled = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._path: Path | None = None
        self._is_stalled = False

    @property
    def path(self) -> Path | None:
        """The path that new work takes."""
        return self._path

    @property
    def is_stalled(self) -> bool:
        """Are there connections, but none that answers?"""
        return self._is_stalled

    def carriers(self, path: Path) -> tuple[Carrier, ...]:
        """The connections over a path, doubtful ones too, without those that only end what they have begun."""
        return tuple(self._carriers[path])

    # ── by the round ───────────────────────────────────────────────────────────────────────────

    async def tend(self) -> None:
        """Dial what is due. Where there is no way yet, wait until there is one or every attempt has failed."""
        now, target = self._tools.clock(), target_of(self._backend.instance)
        if not self._has_a_way_in(target, now):
            return
        found = {address.path for address in target.addresses}
        ways = {
            path: record for path, record in self.records.items() if path in found or self._carriers[path]
        }
        for race in paths.due(ways, now, mode=self._settings.paths, upgrade_at=self._upgrade_at):
            if wanted := tuple(path for path in race if path in found):
                self._dial(wanted, target, now)
        self._balance_lanes(target)
        self._look_again(now)
        if self._dials and not self._backend.ways:
            self._settled.clear()
            await self._settled.wait()

    def update(self, before: Instance, after: Instance) -> None:
        """The account shows this of our instance now. Another start means another machine behind the id."""
        old, new = target_of(before), target_of(after)
        if new == old:
            return
        is_another = new.identity != old.identity
        self.redial(path for path in Path if is_another or new.on(path) != old.on(path))
        if is_another:
            self.refusals.forget()
            self._spawn(self._tools.engine.recycled(new.identity), "recycled")
            for carrier in tuple(self._open):
                self._end(carrier)

    def redial(self, which: Iterable[Path] = tuple(Path)) -> None:
        """What was learnt from failures on these paths is worth nothing any more: dial them soon."""
        for path in which:
            self.records[path] = paths.readdressed(self.records[path])
            self._dials.call_off((path,))
        self.wake.set()

    async def leave(self, *, grace_s: float) -> None:
        """Begin nothing more, let running streams end, for at most `grace_s`, then close."""
        await self._stop()
        ends = [carrier.tunnel.lost for carrier in self._open]
        for carrier in tuple(self._open):
            carrier.retire()
        if ends:
            await asyncio.wait(ends, timeout=grace_s)
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection, retired ones too; streams on them end."""
        await self._stop()
        await asyncio.gather(*(carrier.tunnel.close() for carrier in tuple(self._open)))

    async def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._lane is not None:
            self._lane.cancel()
        await self._dials.aclose()

    def _has_a_way_in(self, target: TunnelTarget, now: float) -> bool:
        if self._open or (self._backend.instance.has_sshd and target.addresses):
            return True
        self._backend.step(Event.DIAL, now)
        self._backend.detail = (
            f"instance {target.instance_id} has no SSH address (yet)"
            if self._backend.instance.has_sshd
            else "its image was started without sshd (runtype args), so there is no way in"
        )
        return False

    def _dial(self, race: Race, target: TunnelTarget, now: float) -> None:
        for path in race:
            self._step(path, PathEvent.DIAL)
        if not self._backend.ways:
            self._backend.step(Event.DIAL, now)
        self._upgrade_at = now + self._settings.upgrade_interval_s
        self._dials.begin(race, target)

    def _look_again(self, now: float) -> None:
        """Come back when a pause is over; a round may be long after that."""
        if self._timer is not None:
            self._timer.cancel()
        at = paths.next_look(self.records, now)
        loop = asyncio.get_running_loop()
        self._timer = None if at is None else loop.call_later(at - now, self.wake.set)

    def _balance_lanes(self, target: TunnelTarget) -> None:
        ways, engine = self._backend.ways, self._backend.engine
        if len(ways) > 1 and engine is not None:
            for way in ways[1:]:  # the first one is seen by the probes
                self._spawn(way.measure(engine.port), "measure")
        if not ways or (self._lane is not None and not self._lane.done()):
            return
        limits = self._settings
        change = lanes.change(
            [way.busy for way in ways],
            is_queueing=all(way.is_queueing for way in ways),
            has_queued=any(way.has_queued for way in ways),
            per_connection=limits.streams_per_connection,
            most=limits.max_connections,
        )
        if change > 0:
            self._lane = self._spawn(self._open_lane(ways[0], target), "lane")
        elif change < 0:
            self._carriers[ways[-1].path].remove(ways[-1])
            ways[-1].retire()
            self._choose("")

    async def _open_lane(self, like: Carrier, target: TunnelTarget) -> None:
        try:
            tunnel = await self._tools.engine.connect(target, like.tunnel.address)
        except TunnelError as error:
            logger.info("[backend=%d] no further connection beside the first: %s", self._backend.id, error)
            return
        if like not in self._carriers[like.path] or self._backend.leaving:
            await tunnel.close()
            return
        self._attach(tunnel)
        self._choose("")

    # ── what happens ───────────────────────────────────────────────────────────────────────────

    def _dialled(self, race: Race, outcome: Outcome) -> None:
        won: Path | None = None
        if isinstance(outcome, TunnelError):
            pause_s = self.refusals.note(race, outcome)
            for path in race:
                self._step(path, PathEvent.FAILED, pause_at_most_s=pause_s)
            why = "no attempt succeeded"
        else:
            won = outcome.address.path if outcome is not None else None
            for path in race:
                self._step(path, PathEvent.CONNECTED if path is won else PathEvent.LEFT)
            why = "connected"
        if won is not None and outcome is not None and not isinstance(outcome, TunnelError):
            self._attach(outcome)
        self._choose(why)
        if not self._dials:
            self._settled.set()
            if not self._open and not self._backend.leaving:
                self._backend.step(Event.TUNNEL_LOST, self._tools.clock(), self.refusals.text())
        self.wake.set()

    def _attach(self, tunnel: Tunnel) -> None:
        carrier = Carrier(tunnel, self._tools.settings.upstream, end=self._end)
        self._open.add(carrier)
        self._carriers[carrier.path].append(carrier)
        self.refusals.connected(carrier.path)
        tunnel.on_doubt = partial(self._doubted, carrier)
        tunnel.lost.add_done_callback(partial(self._lost, carrier))

    def _doubted(self, carrier: Carrier, is_doubted: bool) -> None:
        if is_doubted:
            carrier.stall()
        members = self._carriers[carrier.path]
        state = self.records[carrier.path].state
        if all(each.tunnel.is_doubted for each in members):
            if state is PathState.UP:
                self._step(carrier.path, PathEvent.DOUBT)
        elif state is PathState.DOUBTED:
            self._step(carrier.path, PathEvent.PROOF)
        self._choose(f"the {carrier.path} path {'does not answer' if is_doubted else 'answers again'}")
        self.wake.set()

    def _lost(self, carrier: Carrier, lost: "asyncio.Future[Exception | None]") -> None:
        self._open.discard(carrier)
        members = self._carriers[carrier.path]
        if carrier in members:
            members.remove(carrier)
            if not members:
                self._step(carrier.path, PathEvent.LOST)
            self._choose(f"the tunnel ended: {lost.result() or 'closed'}")
        self.wake.set()

    def _let_go(self, path: Path) -> None:
        for carrier in self._carriers[path]:
            carrier.retire()
        self._carriers[path].clear()
        self._step(path, PathEvent.LEFT)

    def _choose(self, why: str) -> None:
        """Let new work take the best that there is now."""
        ways: tuple[Carrier, ...] = ()
        spare: tuple[Carrier, ...] = ()
        for path in paths.usable(self.records):
            found = tuple(each for each in self._carriers[path] if each.is_usable)
            ways, spare = (ways, spare + found) if ways else (found, spare)
        if (
            self._settings.paths == "one"
            and ways
            and ways[0].path is Path.DIRECT
            and self._carriers[Path.RELAY]
        ):
            self._let_go(Path.RELAY)
        best = ways[0].path if ways else None
        is_stalled = not ways and any(each.state is PathState.DOUBTED for each in self.records.values())
        if ways:
            self._backend.use(ways, spare)
            self._settled.set()
        if (best, is_stalled) == (self._path, self._is_stalled):
            return
        self._path, self._is_stalled = best, is_stalled
        if not ways:
            event = Event.STALLED if is_stalled else Event.TUNNEL_LOST
            self._backend.cut_off(event, self._tools.clock(), why)
        self._changed()
        if not self._backend.leaving:
            told = f"{why} ({ways[0].tunnel.address})" if ways else why
            self._tools.path_changed(self._backend, best, told)

    def _step(self, path: Path, event: PathEvent, *, pause_at_most_s: float = float("inf")) -> None:
        self.records[path] = paths.step(
            self.records[path],
            event,
            self._tools.clock(),
            backoff=self._backoff,
            rng=self._tools.rng,
            pause_at_most_s=pause_at_most_s,
        )

    def _end(self, carrier: Carrier) -> None:
        if not self._tools.tasks.closed:  # a fleet that is ending closes all tunnels itself
            self._spawn(carrier.tunnel.close(), "close")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        return self._tools.tasks.spawn(work, name=f"{name}/{self._backend.id}")

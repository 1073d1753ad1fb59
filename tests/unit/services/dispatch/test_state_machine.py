"""Whatever happens to backends and requests, in whatever order: the books are right, nobody is over a cap, nobody is
sent where nobody serves, nobody waits beside a free place, everybody is told once, and nothing is left behind."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.helpers.dispatching import BROKEN_OFF, PORT, SILENT, UNREACHABLE, Caller, Yard, step, way_lost
from tests.helpers.loop import AutojumpLoop
from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.engine import Engine
from vastproxy.services.backends.state import Event, State
from vastproxy.services.dispatch.claim import Lease
from vastproxy.services.errors import ModelNotFound, NoBackendAvailable, OverLimit, ServiceError
from vastproxy.services.routing.admission import limit_of
from vastproxy.services.routing.policy import Hint
from vastproxy.services.routing.ticket import Priority, Stage
from vastproxy.services.routing.usable import usable
from vastproxy.settings.admission import AdmissionSettings, PassiveHealthSettings, QueueSettings
from vastproxy.settings.routing import RoutingSettings

T = TypeVar("T")

ALIASES = {"fast": ("a", "b")}
ASKED = ("a", "a", "b", "b", "fast", "unknown", "", None)
LISTED = (("a",), ("b",), ("a", "b"), ())
ASKERS = ("x", "y", None)
MOST, MOST_OF_ONE, MOST_AT_ONE = 4, 2, 2
WAIT_S = {Priority.INTERACTIVE: 30.0, Priority.BATCH: 90.0}
PLACES = 6
EVENTS = ("ask", "ask", "instance", "engine", "request", "request")
POLICIES = ("prefix_affinity", "least_loaded", "round_robin", "cheapest_first")


class Dispatching(RuleBasedStateMachine):
    """Times are multiples of a quarter of a second, so that none of them is rounded."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = AutojumpLoop()
        self.loop.set_exception_handler(lambda loop, context: self.broken.append(context))
        self.broken: list[object] = []
        self.callers: list[Caller] = []
        """Those that are not over."""
        self.gone: list[tuple[Caller, int]] = []
        """Those that are, with the number of times they were told something."""
        self.ever: set[str] = set()

    @initialize(policy=st.sampled_from(POLICIES), capped=st.booleans(), seed=st.integers(0, 9))
    def begin(self, policy: str, capped: bool, seed: int) -> None:
        caps = {"max_in_flight": MOST, "max_in_flight_per_key": MOST_OF_ONE} if capped else {}
        self.is_capped = capped
        self.yard = Yard(
            self.loop.time,
            routing=RoutingSettings.model_validate({"policy": policy, "aliases": ALIASES, "retry_least": 1}),
            admission=AdmissionSettings.model_validate({**caps, "max_in_flight_per_backend": MOST_AT_ONE}),
            queue=QueueSettings(
                max_waiting=PLACES,
                max_waiting_per_key=PLACES - 2,
                max_wait_s=WAIT_S[Priority.INTERACTIVE],
                batch_max_waiting=PLACES,
                batch_max_waiting_per_key=PLACES,
                batch_max_wait_s=WAIT_S[Priority.BATCH],
                batch_after=2,
            ),
            passive=PassiveHealthSettings(way_failures=2, engine_failures=2, refusals=2, slow_start_s=5),
            seed=seed,
        )
        self.yard.on_place = self.check_place
        self.dispatcher = self.yard.dispatcher

    # ── what happens ───────────────────────────────────────────────────────────────────────────

    @rule(data=st.data(), names=st.lists(st.sampled_from(EVENTS), min_size=1, max_size=4))
    def happen(self, data: st.DataObject, names: list[str]) -> None:
        """Several things, one after the other, in one step of the loop."""
        acts: dict[str, Callable[[st.DataObject], None]] = {
            "ask": self.ask,
            "instance": self.change_instance,
            "engine": self.change_engine,
            "request": self.end_request,
        }

        async def act() -> None:
            for name in names:
                acts[name](data)
            await step()

        self.loop.run_until_complete(act())

    @rule(seconds=st.sampled_from([0.25, 1.0, 10.0, 30.0]))
    def wait(self, seconds: float) -> None:
        """Time passes: pauses and ejections end, waits are over."""

        async def act() -> None:
            await asyncio.sleep(seconds)
            await step()

        self.loop.run_until_complete(act())

    @rule(expecting=st.booleans())
    def expect(self, expecting: bool) -> None:
        """Instances are in the account, or the last one has gone long ago."""
        self.yard.is_expecting = expecting

    def ask(self, data: st.DataObject) -> None:
        model = data.draw(st.sampled_from(ASKED), "model")
        asker = data.draw(st.sampled_from(ASKERS), "asker")
        priority = data.draw(st.sampled_from(Priority), "priority")
        pin, session = data.draw(st.sampled_from([(None, None), (1, None), (None, 7), (2, 8)]), "hint")
        prefix = data.draw(st.sampled_from([(), (11,), (11, 12)]), "prefix")
        for _ in range(data.draw(st.integers(1, 3), "times")):
            self.ask_once(model, asker, priority, Hint(prefix, session, pin))

    def ask_once(self, model: str | None, asker: str | None, priority: Priority, hint: Hint) -> None:
        is_quiet = self.dispatcher.waiting == 0
        caller = self.yard.ask(model, asker=asker, priority=priority, hint=hint)
        if not caller.waits and isinstance(caller.heard[0], ServiceError):
            self.check_refusal(caller, at_once=is_quiet)
            self.gone.append((caller, 1))
        else:
            self.callers.append(caller)

    def change_instance(self, data: st.DataObject) -> None:
        id = data.draw(st.integers(1, 3), "instance")
        backend = self.yard.backends.get(id)
        if backend is None:
            self.come(data, id)
            return
        what = data.draw(st.sampled_from(["goes", "drained", "undrained", "cut off", "reconnected", "again"]))
        if what == "goes":
            self.yard.remove(backend)
        elif what == "drained":
            backend.step(Event.DRAIN, self.yard.clock(), "drained")
        elif what == "undrained" and backend.state is State.DRAINING:
            backend.step(Event.UNDRAIN, self.yard.clock())
            self.yard.probe(backend)
        elif what == "cut off":
            self.yard.cut_off(backend)
        elif what == "reconnected":
            self.yard.reconnect(backend)
        elif what == "again":
            self.yard.remove(backend)
            self.come(data, id)

    def come(self, data: st.DataObject, id: int) -> None:
        count = data.draw(st.integers(1, 2), "engines")
        self.yard.add(id, *(self.new_engine(data, id, PORT + number) for number in range(count)))

    def new_engine(self, data: st.DataObject, id: int, port: int) -> Engine:
        models = data.draw(st.sampled_from(LISTED), "lists")
        self.ever.update(models)
        return self.yard.engine(id, port, models, limit=data.draw(st.sampled_from([1, 2, None]), "limit"))

    def change_engine(self, data: st.DataObject) -> None:
        engines = [each for backend in self.yard.backends.values() for each in backend.engines]
        if not engines:
            return
        engine = data.draw(st.sampled_from(engines), "engine")
        what = data.draw(st.sampled_from(["ill", "well", "lists", "resized", "replaced"]), "what")
        if what == "ill":
            self.yard.ill(engine)
        elif what == "well":
            self.yard.well(engine)
        elif what == "lists":
            models = data.draw(st.sampled_from(LISTED), "models")
            self.ever.update(models)
            self.yard.lists(engine, *models)
        elif what == "resized":
            self.yard.resize(engine, data.draw(st.sampled_from([1, 2, 4, None]), "limit"))
        else:
            backend = self.yard.backends[engine.instance_id]
            other = self.new_engine(data, backend.id, engine.port)
            self.yard.probe(backend, *(other if each is engine else each for each in backend.engines))

    def end_request(self, data: st.DataObject) -> None:
        """One of those that run or wait: its client leaves, it is answered, or its attempt fails."""
        if not self.callers:
            return
        caller = data.draw(st.sampled_from(self.callers), "caller")
        if caller.waits or isinstance(caller.heard[0], ServiceError):
            self.over(caller)
            return
        ends = ["left", "answered", "5xx", "busy", "401", "busy elsewhere", "fails"]
        what = data.draw(st.sampled_from(ends), "end")
        if what == "left":
            self.over(caller)
        elif what == "fails":
            self.fail(data, caller)
        elif what == "busy elsewhere":
            self.pass_on(caller)
        else:
            status = {"answered": 200, "5xx": 500, "busy": 503, "401": 401}[what]
            self.dispatcher.answered(caller, status, 2.0 if status == 503 else None)
            self.over(caller)

    def fail(self, data: st.DataObject, caller: Caller) -> None:
        errors = [UNREACHABLE, BROKEN_OFF, SILENT, way_lost()]
        error = data.draw(st.sampled_from(errors), "error")
        costly = error is errors[-1]
        if error in (BROKEN_OFF, SILENT) or (costly and not self.dispatcher.may_retry):
            self.dispatcher.failed(caller, error, reached=error is BROKEN_OFF)
            self.over(caller)
        else:
            self.sent_elsewhere(self.yard.fail(caller, error, costly=costly))

    def pass_on(self, caller: Caller) -> None:
        """Its engine is full, and there may be another one."""
        others = self.dispatcher.others(caller)
        assert caller.lease is not None
        tried = {*caller.tried, caller.lease.engine.key}
        assert others == bool({each.key for each in self.free_for(caller, tried)}), "others"
        can = others and self.dispatcher.may_retry
        self.dispatcher.answered(caller, 429)
        if can:
            caller.tried = {*caller.tried, caller.lease.engine.key}
            self.sent_elsewhere(self.yard.elsewhere(caller))
        else:
            self.over(caller)

    def sent_elsewhere(self, caller: Caller) -> None:
        if not caller.waits and isinstance(caller.heard[0], ServiceError):
            self.check_refusal(caller, at_once=True)
            self.callers.remove(caller)
            self.gone.append((caller, 1))

    def over(self, caller: Caller) -> None:
        for _ in range(2):
            self.yard.finish(caller)
        self.callers.remove(caller)
        self.gone = [*self.gone[-40:], (caller, len(caller.heard))]

    # ── who could serve ────────────────────────────────────────────────────────────────────────

    def members(self, model: str | None) -> list[Engine]:
        """Those that can be asked for a model, as they say themselves."""
        return [
            engine
            for backend in self.yard.backends.values()
            if backend.available
            for engine in backend.engines
            if engine.is_healthy and engine not in self.yard.unreached and has(engine, model)
        ]

    def free_for(self, caller: Caller, tried: Sequence[int] | set[int] = ()) -> list[Engine]:
        """Those of them that have a place for this request, and are not to be left alone."""
        members = [each for each in self.members(caller.model) if each.key not in tried]
        passive = self.dispatcher.targets.passive
        records = {each.key: passive.state_of(each.key) for each in members}
        # Of those whose time is over at the same moment any may be taken back: it is the dispatcher's to choose.
        order = list(caller.need.members) if caller.need is not None else []
        known = {
            key: record
            for key, record in sorted(
                records.items(), key=lambda each: order.index(each[0]) if each[0] in order else -1
            )
            if record is not None
        }
        assert len(known) == len(members)
        left = usable(known, self.yard.clock())
        assert bool(left) == bool(members), "passive health has left nobody"
        return [
            each for each in members if each.key in left and each.in_flight < cap(each, self.yard.engines)
        ]

    @property
    def running(self) -> list[Caller]:
        return [each for each in self.callers if each.heard and isinstance(each.heard[0], Lease)]

    # ── what always holds ──────────────────────────────────────────────────────────────────────

    def check_place(self, caller: Caller, lease: Lease) -> None:
        """In the moment in which it is given."""
        engine, backend = lease.engine, lease.backend
        is_there = self.yard.backends.get(backend.id) is backend and backend.available
        if not (is_there and engine in self.members(caller.model)):
            self.broken.append("a place where nobody serves it")
        if not engine.in_flight == lease.among <= cap(engine, self.yard.engines):
            self.broken.append("a place beyond the cap")

    def check_refusal(self, caller: Caller, *, at_once: bool) -> None:
        error = caller.error
        if isinstance(error, ModelNotFound):
            assert not self.members(caller.model)
            assert caller.model == "unknown" or caller.model not in self.ever
            return
        assert isinstance(error, OverLimit | NoBackendAvailable)
        assert error.retry_after_s >= 1
        if at_once and not self.is_capped:
            assert not self.free_for(caller), "refused beside a free place"

    @invariant()
    def the_books_are_right(self) -> None:
        if not hasattr(self, "yard"):
            return
        at = Counter(each.place.engine for each in self.running)
        assert {each: each.in_flight for each in self.yard.engines if each.in_flight} == at
        inside = Counter(each.place.backend for each in self.running)
        known: set[Backend] = {*self.yard.backends.values(), *inside}
        assert {each: each.in_flight for each in known if each.in_flight} == inside
        waiting = [each for each in self.callers if each.waits]
        assert (self.dispatcher.in_flight, self.dispatcher.waiting) == (len(self.running), len(waiting))

    @invariant()
    def every_place_was_one(self) -> None:
        """Noted where it was given, as the dispatcher goes on when somebody cannot be told."""
        assert self.broken == []

    @invariant()
    def nobody_is_over_a_cap(self) -> None:
        if hasattr(self, "yard") and self.is_capped:
            assert len(self.running) <= MOST
            per_asker = Counter(each.asker for each in self.running if each.asker is not None)
            assert max(per_asker.values(), default=0) <= MOST_OF_ONE

    @invariant()
    def retries_are_counted(self) -> None:
        budgeted = sum(each.budgeted for each in self.callers)
        assert not any(each.budgeted for each, _ in self.gone)
        if hasattr(self, "yard"):
            assert self.dispatcher.may_retry == (budgeted < max(1, int(0.2 * len(self.running))))

    @invariant()
    def everybody_is_told_once(self) -> None:
        assert all(len(each.heard) <= 1 for each in self.callers)
        assert all(len(each.heard) == count for each, count in self.gone)

    @invariant()
    def nobody_waits_beside_a_free_place_or_too_long(self) -> None:
        per_asker = Counter(each.asker for each in self.running if each.asker is not None)
        for each in self.callers:
            if not each.waits:
                continue
            assert each.ticket is not None
            assert each.ticket.stage is Stage.WAITING
            assert each.ticket.deadline > self.yard.clock()
            if not each.leases:
                assert each.ticket.deadline == each.began_at + WAIT_S[each.priority]
            is_held = self.is_capped and (len(self.running) >= MOST or per_asker[each.asker] >= MOST_OF_ONE)
            assert is_held or not self.free_for(each), "waits beside a free place"

    def teardown(self) -> None:
        if not hasattr(self, "yard"):
            self.loop.close()
            return

        async def end() -> None:
            for caller in list(self.callers):
                self.over(caller)
            await step()
            self.the_books_are_right()
            self.retries_are_counted()
            assert self.dispatcher.may_retry
            self.dispatcher.aclose()

        try:
            self.loop.run_until_complete(end())
        finally:
            self.loop.close()


def has(engine: Engine, model: str | None) -> bool:
    """Does it serve what is asked for, as far as it lists its models?"""
    if not model or not engine.models:
        return True
    return any(name in engine.models for name in ALIASES.get(model, (model,)))


def cap(engine: Engine, engines: Sequence[Engine]) -> int:
    """What it may have at a time, as it says itself and the settings do, less what still runs there from before."""
    limit = limit_of(engine.capacity, MOST_AT_ONE)
    assert limit is not None
    before = sum(each.in_flight for each in engines if each.key == engine.key and each is not engine)
    return max(limit - before, 0)


TestDispatching = Dispatching.TestCase
TestDispatching.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

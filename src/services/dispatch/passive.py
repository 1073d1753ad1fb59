"""Passive health: what becomes of requests says which engines are to be left alone. Keeps the records; decides nothing.

An engine about which there is nothing to note, as nearly always, costs a request one look into a set.
"""

from collections.abc import Callable, Collection, Mapping

from vastproxy.services.backends.engine import Engine
from vastproxy.services.dispatch.need import Need
from vastproxy.services.events import EngineEjected, EngineReturned, FleetEvent, TokenRefused
from vastproxy.services.routing.outlier import (
    Change,
    Event,
    OutlierLimits,
    Record,
    State,
    fresh,
    step,
    weight,
)
from vastproxy.services.routing.usable import next_return, out_until, usable

_NOBODY: frozenset[int] = frozenset()
_FOREVER = float("inf")


class PassiveHealth:
    """The records of all engines that can be asked."""

    def __init__(self, limits: OutlierLimits, publish: Callable[[FleetEvent], None]) -> None:
        self._limits = limits
        self._publish = publish
        self._records: dict[int, Record] = {}
        self.noted: set[int] = set()
        """Keys of engines of which something is remembered. About the others an answer says nothing new."""
        self.out: set[int] = set()
        """Keys that are, or were until their time was over, to be left alone."""
        self._version = 0
        self.ejections = 0

    def admit(self, engine: Engine, now: float) -> None:
        """It is new, or probes have found it to be well again: what was held against it is forgotten."""
        self._keep(engine, fresh(now), now)

    def forget(self, key: int) -> None:
        """It is gone."""
        if self._records.pop(key, None) is not None:
            self.noted.discard(key)
            self.out.discard(key)
            self._version += 1

    def note(
        self,
        engine: Engine,
        event: Event,
        now: float,
        *,
        detail: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        """Something has become of a request that it was given. `detail`: what, for people, if it went wrong. Of PICKED
        and ANSWERED one that is not `noted` need not be told."""
        record = self._records.get(engine.key)
        if record is None:  # it was forgotten while the request was under way
            return
        after, change = step(record, event, now, self._limits, retry_after_s=retry_after_s)
        if after is not record:
            self._keep(engine, after, now)
        if change is not None:
            self._tell(engine, change, after, now, detail)

    def refresh(self, engine: Engine, now: float) -> None:
        """Let time pass for it."""
        if engine.weight < 1.0 and (record := self._records.get(engine.key)) is not None:
            engine.weight = weight(record, now, self._limits)

    def left_out(self, need: Need, now: float) -> Collection[int]:
        """The members of a need that are to be given nothing now."""
        if not self.out:
            return _NOBODY
        if need.left_out_at != self._version or now >= need.left_out_until:
            records = self._records_of(need.members)
            need.left_out = records.keys() - usable(records, now)
            need.left_out_at = self._version
            need.left_out_until = next_return(records, now) or _FOREVER
        return need.left_out

    def left_out_but(self, need: Need, tried: Collection[int], now: float) -> Collection[int]:
        """The same for a request that some of the members have failed, and those."""
        if not self.out:
            return tried
        records = self._records_of([key for key in need.members if key not in tried])
        return (records.keys() - usable(records, now)) | set(tried)

    def next_return(self, now: float) -> float | None:
        """When the next of those that are left out may be given a request. None: nobody is."""
        return next_return(self._records_of(self.out), now) if self.out else None

    def state_of(self, key: int) -> Record | None:
        """What is remembered of an engine."""
        return self._records.get(key)

    def _records_of(self, keys: Collection[int]) -> Mapping[int, Record]:
        records = self._records
        return {key: records[key] for key in keys if key in records}

    def _keep(self, engine: Engine, record: Record, now: float) -> None:
        key = engine.key
        self._records[key] = record
        engine.weight = weight(record, now, self._limits)
        is_plain = record == Record(record.since)
        (self.noted.discard if is_plain else self.noted.add)(key)
        if record.state is not State.SERVING or now < record.paused_until:
            self.out.add(key)
        else:
            self.out.discard(key)
        self._version += 1

    def _tell(self, engine: Engine, change: Change, record: Record, now: float, detail: str) -> None:
        match change:
            case Change.EJECTED:
                self.ejections += 1
                for_s = round(out_until(record) - now, 1)
                self._publish(EngineEjected(engine.instance_id, engine.port, for_s, detail))
            case Change.RETURNED:
                self._publish(EngineReturned(engine.instance_id, engine.port))
            case Change.MISCONFIGURED:
                self._publish(TokenRefused(engine.instance_id, engine.port, detail))

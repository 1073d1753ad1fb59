"""Which candidates may be given a request, as far as passive health is concerned: never none, if there are any. Pure.

How many are left out is decided anew for every request, over those that could serve it: the last host of a model is as
precious as the last of the fleet, and a fleet that shrinks after an ejection needs no repair.
"""

from collections.abc import Hashable, Mapping
from typing import TypeVar

from vastproxy.services.routing.outlier import Record, State

K = TypeVar("K", bound=Hashable)


def is_out(record: Record, now: float) -> bool:
    """Should it be given nothing now, as far as it alone is concerned?"""
    return now < (record.paused_until if record.state is State.SERVING else record.until)


def usable(records: Mapping[K, Record], now: float) -> list[K]:
    """Which of the candidates that could serve a request may be given it.

    Those that cannot serve (unreachable, full, not accepting our key) are left out down to the last one. Those that
    answer with errors are left out up to half of them all: it may be the requests that are bad, and the rest would
    have to carry everything. Where one has to be taken back, it is the one whose time is over first.
    """
    out = [key for key, record in records.items() if is_out(record, now)]
    if not out:
        return list(records)
    certain = sum(1 for key in out if _cannot_serve(records[key]))
    most = max(len(records) // 2, min(certain, len(records) - 1))
    # A list, sorted: which are taken back must not depend on the order of anything else.
    out.sort(key=lambda key: (not _cannot_serve(records[key]), -out_until(records[key])))
    left_out = set(out[:most])
    return [key for key in records if key not in left_out]


def next_return(records: Mapping[K, Record], now: float) -> float | None:
    """When the next of those that are out may be given a request: a moment to look who waits. None: nobody is out."""
    return min((out_until(record) for record in records.values() if is_out(record, now)), default=None)


def out_until(record: Record) -> float:
    return record.paused_until if record.state is State.SERVING else record.until


def _cannot_serve(record: Record) -> bool:
    return record.state in (State.SERVING, State.MISCONFIGURED) or record.way_lost

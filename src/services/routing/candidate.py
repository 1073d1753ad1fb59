"""Who may be chosen: what a policy sees of one engine of one instance, and the two questions that all of them ask."""

from collections.abc import Collection
from typing import Protocol

from mypy_extensions import mypyc_attr

#: A candidate in slow start counts with this share of its speed at least, so that nothing is divided by nothing.
MIN_WEIGHT = 0.01
#: Ports are below this, so that an instance's engines have keys of their own.
_PORTS = 65_536


@mypyc_attr(native_class=False)
class Candidate(Protocol):
    """One engine of one instance that may serve. Everything may change from one look to the next."""

    @property
    def key(self) -> int:
        """Unique, and the same for as long as it lives: `candidate_key(instance_id, port)`."""
        ...

    @property
    def instance_id(self) -> int: ...

    @property
    def in_flight(self) -> int:
        """Requests of ours that it has and has not ended."""
        ...

    @property
    def limit(self) -> int | None:
        """Requests of ours that it may have at a time; None: not known, as many as come."""
        ...

    @property
    def speed(self) -> float:
        """Work per second at the same load, relative to the other candidates; above 0."""
        ...

    @property
    def weight(self) -> float:
        """0 to 1: the share of its speed that it is to be trusted with now (slow start)."""
        ...

    @property
    def waiting(self) -> int | None:
        """Requests in the engine's own queue, other people's too, as it said itself; None when it does not tell."""
        ...

    @property
    def waiting_at(self) -> float:
        """When it said so, on the clock of `now`; -inf for never."""
        ...

    @property
    def hourly_cost(self) -> float | None:
        """Dollars; None when the account does not tell."""
        ...


def candidate_key(instance_id: int, port: int) -> int:
    """Keys sort as instances do, and then by port."""
    return instance_id * _PORTS + port


def instance_of(key: int) -> int:
    """The instance of a candidate's key."""
    return key // _PORTS


def may_take(candidate: Candidate, exclude: Collection[int] = ()) -> bool:
    """Has it a place left, and is it not among the keys in `exclude`?"""
    limit = candidate.limit
    return (limit is None or candidate.in_flight < limit) and candidate.key not in exclude


def power(candidate: Candidate) -> float:
    """The share of the work that is its due: the speed that it may be trusted with."""
    weight = candidate.weight
    return candidate.speed * (weight if weight > MIN_WEIGHT else MIN_WEIGHT)

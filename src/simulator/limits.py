"""How often each endpoint may be called (vast.ai API docs, `x-rate-limit`, 2026-08). Pure."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Endpoint(StrEnum):
    """Calls that share one limit."""

    LIST_V1 = "list_v1"
    LIST_V0 = "list_v0"
    FILTERS = "filters"
    SHOW = "show"
    UPDATE = "update"
    BULK_UPDATE = "bulk_update"
    REBOOT = "reboot"
    RECYCLE = "recycle"
    DESTROY = "destroy"
    BID = "bid"
    PRICES = "prices"
    LOGS = "logs"
    CREATE = "create"
    SEARCH = "search"
    USER = "user"
    KEYS = "keys"
    ADD_KEY = "add_key"
    ATTACH_KEY = "attach_key"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `calls` in any `period_s` seconds."""

    calls: int
    period_s: float


#: Endpoints that are not here are not limited.
LIMITS: Mapping[Endpoint, Limit] = {
    Endpoint.LIST_V1: Limit(1, 1.0),
    Endpoint.LIST_V0: Limit(1, 1.0),
    Endpoint.SHOW: Limit(1, 2.0),
    Endpoint.UPDATE: Limit(1, 1.0),
    Endpoint.BULK_UPDATE: Limit(1, 2.0),
    Endpoint.REBOOT: Limit(1, 1.0),
    Endpoint.RECYCLE: Limit(1, 1.0),
    Endpoint.DESTROY: Limit(1, 3.0),
    Endpoint.BID: Limit(1, 5.5),
    Endpoint.CREATE: Limit(1, 4.5),
    Endpoint.SEARCH: Limit(10, 60.0),
    Endpoint.ADD_KEY: Limit(1, 1.0),
}


@dataclass(frozen=True, slots=True)
class Excess:
    """A call that came too early: the limit it broke and the seconds until one is admitted."""

    limit: Limit
    wait_s: float


class RateLimits:
    """Remembers the admitted calls of each identity. A refused call does not count."""

    def __init__(
        self, clock: Callable[[], float], *, enabled: bool = True, limits: Mapping[Endpoint, Limit] = LIMITS
    ) -> None:
        self.enabled = enabled
        #: Send Retry-After with a 429. By its documentation vast.ai sends none; the official CLI honours it.
        self.retry_after = False
        self._clock = clock
        self._limits = limits
        self._admitted: dict[tuple[str, Endpoint], deque[float]] = {}

    def admit(self, identity: str, endpoint: Endpoint) -> Excess | None:
        """Count a call. None when it may go on, else why not."""
        limit = self._limits.get(endpoint)
        if limit is None or not self.enabled:
            return None
        now = self._clock()
        past = self._admitted.setdefault((identity, endpoint), deque(maxlen=limit.calls))
        if len(past) == limit.calls and 0 <= now - past[0] < limit.period_s:
            return Excess(limit, limit.period_s - (now - past[0]))
        past.append(now)
        return None

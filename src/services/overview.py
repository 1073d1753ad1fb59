"""The fleet on one page, for dashboards: how it is, what it does, what it costs, and each of its backends.

What only says how late it is, such as the seconds since something, is told apart from the rest: a page on which nothing
else has changed need not be sent again.
"""

from collections.abc import Callable, Mapping
from time import time
from typing import Any, Final

from vastproxy import __version__
from vastproxy.services.fleet import Fleet
from vastproxy.services.snapshot import BackendSnapshot

#: Fields of a backend that change by themselves.
CLOCKS: Final = frozenset({"since_s", "tunnel_since_s", "time_left"})
_FIELDS: Final = tuple(name for name in BackendSnapshot.__slots__ if name not in CLOCKS)

#: What is told of something, and what of that changes by itself: fields by name.
Told = tuple[dict[str, Any], Mapping[str, Any]]


class Overview:
    """Reads one fleet. Asking costs nothing but the looking: some 30 µs for each backend."""

    def __init__(self, fleet: Fleet, *, wall_clock: Callable[[], float] = time) -> None:
        self._fleet = fleet
        self._wall_clock = wall_clock

    def head(self) -> Told:
        """All but the backends."""
        fleet = self._fleet
        summary, account = fleet.summary(), fleet.account.snapshot()
        api = summary.vast_api
        told = {
            "version": __version__,
            "url": fleet.live.url,
            "status": summary.status,
            "reason": summary.reason,
            "vast_api": {"status": api.status, "latency_ms": api.latency_ms, "error": api.error},
            "account": {
                "credit_dollars": account.credit_dollars,
                "dollars_per_hour": account.dollars_per_hour,
                "hours_left": account.hours_left,
            },
            "counts": summary.backends,
            "totals": fleet.live.totals(),
        }
        return told, {"uptime_s": summary.uptime_s, "at_unix": round(self._wall_clock(), 3)}

    def row(self, instance_id: int) -> Told:
        """One backend, its parts not yet as JSON values: see `shown`. Raises KeyError."""
        snapshot, live = self._fleet.backend(instance_id), self._fleet.live
        told: dict[str, Any] = {name: getattr(snapshot, name) for name in _FIELDS}
        told |= live.row(live.backends[instance_id])
        clocks = {
            "since_s": snapshot.since_s,
            "tunnel_since_s": snapshot.tunnel_since_s,
            "time_left": None if snapshot.time_left is None else snapshot.time_left.to_json(),
        }
        return told, clocks

    def detail(self, instance_id: int, *, events: int) -> dict[str, Any]:
        """One backend with its instance, secrets hidden, and its last events. Raises KeyError."""
        told, clocks = self.row(instance_id)
        last = self._fleet.events.latest(events, instance_id=instance_id)
        return {
            **shown(told),
            **clocks,
            "instance": self._fleet.live.backends[instance_id].instance.to_json(),
            "events": [one.to_json() for one in last],
        }


def shown(told: Mapping[str, Any]) -> dict[str, Any]:
    """What `row` tells, as JSON values. Most of the work, so it is not done before something has changed."""
    return {name: _plain(value) for name, value in told.items()}


def _plain(value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    return [one.to_json() if hasattr(one, "to_json") else one for one in value]

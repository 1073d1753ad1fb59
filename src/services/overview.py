"""The fleet on one page, for dashboards: how it is, what it does, what it costs, and each of its backends.

What only says how late it is, such as the seconds since something, is told apart from the rest: a page on which nothing
else has changed need not be sent again.
"""

from collections.abc import Callable, Mapping
from time import time
from typing import Any, Final

from vastproxy import __version__
from vastproxy.services.fleet import Fleet

#: Fields of a backend that change by themselves.
CLOCKS: Final = ("since_s", "tunnel_since_s", "time_left")

#: What is told of something, and what of that changes by itself: fields by name.
Told = tuple[dict[str, Any], Mapping[str, Any]]


class Overview:
    """Reads one fleet. Asking costs nothing but the looking: some 50 µs for each backend."""

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
        """One backend. Raises KeyError."""
        snapshot, live = self._fleet.backend(instance_id), self._fleet.live
        told = {"time_left": None, **snapshot.to_json(), **live.row(live.backends[instance_id])}
        return told, {name: told.pop(name) for name in CLOCKS}

    def detail(self, instance_id: int, *, events: int) -> dict[str, Any]:
        """One backend with its instance, secrets hidden, and its last events. Raises KeyError."""
        told, clocks = self.row(instance_id)
        last = self._fleet.events.latest(events, instance_id=instance_id)
        return {
            **told,
            **clocks,
            "instance": self._fleet.live.backends[instance_id].instance.to_json(),
            "events": [one.to_json() for one in last],
        }

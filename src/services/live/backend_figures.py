"""The figures of one backend: what its own counters say of the last seconds, and its hour."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, NamedTuple

from vastproxy.services.backends.backend import Backend
from vastproxy.services.live.history import History, Point

#: Steps of which errors are told.
_ERROR_STEPS: Final = 30
_ERRORS_AT: Final = Point._fields.index("errors")
#: Times to the first byte that are kept of one step.
_MAX_TIMES: Final = 64


class _Moment(NamedTuple):
    at: float
    requests: int
    failures: int
    tokens_out: int


@dataclass(slots=True)
class Gpus:
    """What GPUs are doing, added up."""

    busy_percent: float = 0.0
    read: int = 0
    used_mib: float = 0.0
    total_mib: float = 0.0

    def add(self, other: "Gpus") -> None:
        """Those too."""
        self.busy_percent += other.busy_percent
        self.read += other.read
        self.used_mib += other.used_mib
        self.total_mib += other.total_mib

    @property
    def percent(self) -> float | None:
        """How busy they are in the mean; None where none tells."""
        return self.busy_percent / self.read if self.read else None

    @property
    def memory_percent(self) -> float | None:
        """How much of all their memory is used; None where none tells."""
        return self.used_mib / self.total_mib * 100 if self.total_mib else None


def gpus_of(backend: Backend) -> Gpus:
    """Those of one backend, as they were read last."""
    found = Gpus()
    reading = backend.gpus
    for gpu in reading.gpus if reading is not None else ():
        if gpu.utilization_percent is not None:
            found.busy_percent += gpu.utilization_percent
            found.read += 1
        if gpu.memory_used_mib is not None and gpu.memory_total_mib:
            found.used_mib += gpu.memory_used_mib
            found.total_mib += gpu.memory_total_mib
    return found


class BackendFigures:
    """See the module's docstring."""

    __slots__ = ("_base", "_before", "_step", "_times_s", "_tokens_of", "backend", "history")

    def __init__(self, backend: Backend, tokens_of: Callable[[int], int], now: float) -> None:
        """To be made when the backend is. `tokens_of`: tokens that an instance has sent in all; they begin anew when it
        is served anew."""
        self.backend = backend
        self.history = History()
        self._tokens_of = tokens_of
        self._base = self._before = _Moment(now, 0, 0, 0)
        """At the end of the last step, and of the one before."""
        self._step = -1
        self._times_s: list[float] = []

    def add_times(self, times_s: Sequence[float]) -> None:
        """Until the first byte of streams that have ended."""
        self._times_s.extend(times_s[: _MAX_TIMES - len(self._times_s)])

    def end_step(self, step: int, now: float, gpus: Gpus) -> None:
        """A step is over."""
        backend = self.backend
        moment, base = self._moment(now), self._base
        times, self._times_s = self._times_s, []
        waiting = [engine.waiting for engine in backend.engines if engine.waiting is not None]
        self.history.add(
            step,
            (
                moment.requests - base.requests,
                moment.failures - base.failures,
                None,
                max(moment.tokens_out - base.tokens_out, 0),
                median(times) * 1000 if times else None,
                backend.in_flight,
                sum(waiting) if waiting else None,
                gpus.percent,
                gpus.memory_percent,
                backend.instance.hourly_cost,
                backend.available,
            ),
        )
        self._before, self._base, self._step = base, moment, step

    def told(self, now: float) -> dict[str, Any]:
        """Rates are means of the last 10 to 20 s, errors those of the last 5 min."""
        moment, before = self._moment(now), self._before
        seconds = max(now - before.at, 1.0)
        errors = self.history.sum_of(_ERRORS_AT, self._step + 1 - _ERROR_STEPS)
        return {
            "tokens_per_s": round(max(moment.tokens_out - before.tokens_out, 0) / seconds, 3),
            "requests_per_s": round((moment.requests - before.requests) / seconds, 3),
            "errors": int(errors) + moment.failures - self._base.failures,
        }

    def _moment(self, now: float) -> _Moment:
        backend = self.backend
        return _Moment(now, backend.requests, backend.failures, self._tokens_of(backend.id))

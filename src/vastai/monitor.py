"""Counting and timing calls, for whoever wants to know. Nothing happens unless a monitor is handed in."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol


class Monitor(Protocol):
    """Told of every call. Safe to use from several threads."""

    def track(self, name: str) -> AbstractContextManager[object]:
        """A context around one call; an exception that leaves it is the call's failure."""
        ...


class NullMonitor:
    """Looks away."""

    def track(self, name: str) -> AbstractContextManager[object]:
        return nullcontext()


@dataclass(frozen=True, slots=True)
class CallStats:
    """What has been seen of one name. `count` includes failures; `errors` counts them by code."""

    count: int = 0
    errors: Mapping[str, int] = field(default_factory=dict, hash=False)
    last_s: float = 0.0
    total_s: float = 0.0


class RecordingMonitor:
    """Remembers counts and times per name."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._stats: dict[str, CallStats] = {}

    @contextmanager
    def track(self, name: str) -> Iterator[None]:
        started = self._clock()
        code: str | None = None
        try:
            yield
        except BaseException as error:
            code = getattr(error, "code", None) or type(error).__name__
            raise
        finally:
            self._note(name, str(code) if code is not None else None, self._clock() - started)

    def _note(self, name: str, code: str | None, took_s: float) -> None:
        with self._lock:
            before = self._stats.get(name, CallStats())
            errors = dict(before.errors)
            if code is not None:
                errors[code] = errors.get(code, 0) + 1
            self._stats[name] = CallStats(before.count + 1, errors, took_s, before.total_s + took_s)

    def snapshot(self) -> Mapping[str, CallStats]:
        """What has been seen up to now; does not change afterwards."""
        with self._lock:
            return dict(self._stats)

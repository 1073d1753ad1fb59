"""The Monitor that is handed to the vast.ai client: calls, their times and their errors, by operation."""

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from vastproxy.services.metrics import families
from vastproxy.services.metrics.exposition import Form, block, histogram, labelled, sample

#: Upper ends in seconds: vast.ai answers in 0.1 to 2 s, and a read is given up after half a minute by default.
BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
#: Operations and codes that are told apart. The client has about twenty operations; codes are vast.ai's.
MAX_OPERATIONS: Final = 64
MAX_CODES: Final = 256
_OTHER: Final = "other"


class _Calls:
    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0


class ApiMetrics:
    """A `vastproxy.vastai.Monitor`. Safe to use from several threads."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._calls: dict[str, _Calls] = {}
        self._errors: dict[tuple[str, str], int] = {}

    @contextmanager
    def track(self, name: str) -> Iterator[None]:
        """A context around one call; an exception that leaves it is the call's failure."""
        began = self._clock()
        code: str | None = None
        try:
            yield
        except BaseException as error:
            code = str(getattr(error, "code", None) or type(error).__name__)
            raise
        finally:
            self._note(name, code, self._clock() - began)

    def _note(self, name: str, code: str | None, took_s: float) -> None:
        with self._lock:
            if name not in self._calls and len(self._calls) >= MAX_OPERATIONS:
                name = _OTHER
            calls = self._calls.setdefault(name, _Calls())
            calls.seconds += took_s
            calls.counts[bisect_left(BOUNDS, took_s)] += 1
            if code is not None:
                key = (name, code)
                if key not in self._errors and len(self._errors) >= MAX_CODES:
                    key = (name, _OTHER)
                self._errors[key] = self._errors.get(key, 0) + 1

    def text(self, form: Form) -> Iterator[str]:
        """Calls and errors as lines of a scrape."""
        with self._lock:
            calls = [(name, list(one.counts), one.seconds) for name, one in self._calls.items()]
            errors = list(self._errors.items())
        name = families.API_CALLS.name
        yield from block(
            families.API_CALLS,
            form,
            (
                histogram(name, labelled(operation=operation), BOUNDS, counts, seconds)
                for operation, counts, seconds in calls
            ),
        )
        yield from block(
            families.API_ERRORS,
            form,
            (
                sample(families.API_ERRORS.name, labelled(operation=operation, code=code), number)
                for (operation, code), number in errors
            ),
        )

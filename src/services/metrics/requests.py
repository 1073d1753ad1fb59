"""Counting requests: one call when a request has ended, some additions in plain lists and slots. Pure.

Measured at 0.7 to 0.9 µs for a request (bench/metrics.py). Objects of prometheus_client take 13 to 26 µs for the same
numbers, a lock and often a look-up for each, so the counters are our own and become text at a scrape. All that a
request adds to lies in one record, found by one look-up.

What is kept is bounded, whoever sends the requests: so many names of models, kinds of errors and status codes, and
what comes after goes by `other`.
"""

from bisect import bisect_left
from typing import Final

from vastproxy.services.metrics.exposition import LABEL_CHARS

#: Upper ends in seconds, as OpenTelemetry's conventions have them; three more, as long answers last minutes.
DURATION_BOUNDS: Final = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    *(163.84, 327.68, 655.36),
)
#: As there; three more, as a wait for a place counts too.
TTFT_BOUNDS: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0),
)
#: As there; one below, as a small model answers faster.
TPOT_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
#: As there, up to the longest contexts that are.
TOKEN_BOUNDS: Final = (
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262144.0,
    1048576.0,
    4194304.0,
)
#: Waits in the queue: a few milliseconds at a busy fleet, minutes where a host is replaced.
WAIT_BOUNDS: Final = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

#: What stands for names beyond the limit.
OTHER: Final = "other"
#: Status of a request whose client left.
LEFT: Final = 499
#: Status codes and kinds of errors that are told apart. Ours are about twenty; engines may invent others.
MAX_CODES: Final = 48
MAX_KINDS: Final = 48
#: Kinds of requests in all. A page has at most about 150 lines for each.
MAX_SERIES: Final = 2_000


class Series:
    """What requests of one kind add up to: `operation`, `model`, status `code` and kind of `error` are the same."""

    __slots__ = (
        "code",
        "durations",
        "error",
        "model",
        "operation",
        "received_bytes",
        "retries",
        "seconds",
        "sent_bytes",
        "tokens_in",
        "tokens_in_counts",
        "tokens_out",
        "tokens_out_counts",
        "tpot_counts",
        "tpot_s",
        "ttft_counts",
        "ttft_s",
        "wait_counts",
        "waited_s",
    )

    def __init__(self, operation: str, model: str, code: str, error: str) -> None:
        self.operation = operation
        self.model = model
        self.code = code
        self.error = error
        self.retries = self.received_bytes = self.sent_bytes = self.tokens_in = self.tokens_out = 0
        self.seconds = self.waited_s = self.ttft_s = self.tpot_s = 0.0
        self.durations = [0] * (len(DURATION_BOUNDS) + 1)
        self.wait_counts = [0] * (len(WAIT_BOUNDS) + 1)
        self.ttft_counts = [0] * (len(TTFT_BOUNDS) + 1)
        self.tpot_counts = [0] * (len(TPOT_BOUNDS) + 1)
        self.tokens_in_counts = [0] * (len(TOKEN_BOUNDS) + 1)
        self.tokens_out_counts = [0] * (len(TOKEN_BOUNDS) + 1)


class Answers:
    """What one instance has answered."""

    __slots__ = ("streams", "tokens_out", "ttft_s")

    def __init__(self) -> None:
        self.streams = 0
        self.ttft_s = 0.0
        self.tokens_out = 0


class RequestMetrics:
    """The counters of all requests. Everything belongs to the event loop's thread."""

    def __init__(self, *, max_models: int = 64) -> None:
        self._series: dict[tuple[str, str | None, int, str | None], Series] = {}
        self._found: dict[tuple[str, str, str, str], Series] = {}
        self._models = _Names(max_models)
        self._codes = _Names(MAX_CODES)
        self._kinds = _Names(MAX_KINDS)
        self._operations = _Names(8)
        self.answers: dict[int, Answers] = {}
        """By instance id. `forget` takes one out."""

    def __repr__(self) -> str:
        return f"<RequestMetrics with {len(self._found)} kinds of requests>"

    def finished(
        self,
        operation: str,
        model: str | None,
        instance_id: int | None,
        status: int,
        error: str | None,
        attempts: int,
        queued_s: float | None,
        ttft_s: float | None,
        took_s: float,
        received_bytes: int,
        sent_bytes: int,
        tokens_in: int | None,
        tokens_out: int | None,
        pieces: int,
        streamed: bool,
    ) -> None:
        """A request has ended; to be called once for each.

        operation: as `operation_of` tells. model: the name under which the fleet serves it, never one that nobody
        serves, or None. instance_id: who answered, or was asked last. status: what the client was sent, 499 where it
        left. error: the code of an error of ours, whether it became an answer or broke one off; else None. attempts:
        backends asked, 0 where none was. queued_s: the wait for a place, None where there was no need of one.
        ttft_s: from the request's beginning until the first byte of an engine's answer. took_s: until its end.
        tokens_in, tokens_out: as the engine tells. pieces: in how many reads the answer's body came, 0 where nobody
        counts. streamed: is the answer sent while it is made (SSE, NDJSON)?
        """
        series = self._series.get((operation, model, status, error))
        if series is None:
            series = self._series_of(operation, model, status, error)
        series.seconds += took_s
        series.durations[bisect_left(DURATION_BOUNDS, took_s)] += 1
        series.received_bytes += received_bytes
        series.sent_bytes += sent_bytes
        if attempts > 1:
            series.retries += attempts - 1
        if queued_s is not None:
            if queued_s > 0.0:
                series.waited_s += queued_s
                series.wait_counts[bisect_left(WAIT_BOUNDS, queued_s)] += 1
            else:
                series.wait_counts[0] += 1
        if tokens_in is not None:
            series.tokens_in += tokens_in
            series.tokens_in_counts[bisect_left(TOKEN_BOUNDS, tokens_in)] += 1
        if tokens_out is not None:
            series.tokens_out += tokens_out
            series.tokens_out_counts[bisect_left(TOKEN_BOUNDS, tokens_out)] += 1
        if instance_id is None or status >= 400 or error is not None:
            return
        answers = self.answers.get(instance_id)
        if answers is None:
            answers = self.answers[instance_id] = Answers()
        if tokens_out is not None:
            answers.tokens_out += tokens_out
            pieces = tokens_out
        if streamed and ttft_s is not None:
            series.ttft_s += ttft_s
            series.ttft_counts[bisect_left(TTFT_BOUNDS, ttft_s)] += 1
            answers.streams += 1
            answers.ttft_s += ttft_s
            if pieces > 1 and took_s > ttft_s:  # else it came all at once
                tpot_s = (took_s - ttft_s) / (pieces - 1)
                series.tpot_s += tpot_s
                series.tpot_counts[bisect_left(TPOT_BOUNDS, tpot_s)] += 1

    def forget(self, instance_id: int) -> None:
        """This instance is gone: nothing of it is told any more. Counts of requests by model stay."""
        self.answers.pop(instance_id, None)

    def series(self) -> tuple[Series, ...]:
        """All kinds of requests there were."""
        return tuple(self._found.values())

    def _series_of(self, operation: str, model: str | None, status: int, error: str | None) -> Series:
        """The record for a kind of request that has not been seen, or whose names are beyond the limits."""
        kind = error or ("client_left" if status == LEFT else f"http_{status}" if status >= 400 else "")
        names = (
            self._operations.of(operation),
            self._models.of(model or ""),
            self._codes.of(str(status)),
            self._kinds.of(kind),
        )
        found = self._found.get(names)
        if found is None and len(self._found) >= MAX_SERIES:
            names = (OTHER, OTHER, OTHER, OTHER if kind else "")
            found = self._found.get(names)
        if found is None:
            found = self._found[names] = Series(*names)
        if OTHER not in names:  # else somebody could fill the table with names
            self._series[operation, model, status, error] = found
        return found


class _Names:
    """The first so many names stand for themselves, all others for `other`; so does one that is no name."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def of(self, name: str) -> str:
        if not name or name in self._known:
            return name
        if len(self._known) >= self._limit or len(name) > LABEL_CHARS:
            return OTHER
        self._known.add(name)
        return name

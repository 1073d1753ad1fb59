"""Spans over OTLP/HTTP, by OpenTelemetry's own exporter, which retries, compresses and reads its usual variables."""

import logging
import os
import time
from collections.abc import Callable, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from vastproxy.services.tracing.ended import Ended
from vastproxy.services.tracing.spans import resource_of, spans_of

#: Of what a collector answers, so much is shown.
_MAX_CHARS = 300


class OtlpOutlet:
    """An `Outlet`. `endpoint`: where to, None as the environment says. `clock`: the one that claims are written with;
    `wall_clock`: seconds since 1970."""

    def __init__(
        self,
        endpoint: str | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._resource = resource_of(os.environ)
        self._exporter = OTLPSpanExporter(endpoint=endpoint)
        self._overheard = _Overheard()
        log = logging.getLogger(OTLPSpanExporter.__module__)
        log.filters[:] = [self._overheard]

    def send(self, ended: Sequence[Ended]) -> str | None:
        """See `Outlet.send`."""
        offset = self._wall_clock() - self._clock()
        spans = [
            span
            for each in ended
            for span in spans_of(each, self._resource, lambda at: int((at + offset) * 1e9))
        ]
        self._overheard.last = ""
        if self._exporter.export(spans) is SpanExportResult.SUCCESS:
            return None
        return self._overheard.last or "the collector did not take them"

    def stop(self) -> None:
        """See `Outlet.stop`."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _Overheard(logging.Filter):
    """The exporter tells only its logger why it failed, for each try anew. We say it once."""

    last = ""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage().partition(" encountered while ")[0]
        if "aborting retry" not in text:  # that it gives up says less than why it tried again
            self.last = text[:_MAX_CHARS]
        return False

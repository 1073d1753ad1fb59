"""The settings of distributed tracing."""

from typing import Annotated

from pydantic import Field

from vastproxy.settings.section import HttpUrl, Section


class TracingSettings(Section):
    """Spans of requests for an OpenTelemetry collector. Needs the extra `vastproxy[otel]`; see docs/LOGS.md."""

    enabled: bool = False
    """Send a span for each request and one for each of its attempts, when it is over."""
    endpoint: HttpUrl | None = None
    """Where to, with OTLP over HTTP, path included. Default: as OpenTelemetry's environment variables say
    (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT), else http://localhost:4318/v1/traces."""
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the requests that are told of. One that comes with a `traceparent` is told of if that says so."""
    propagate: bool = False
    """Tell engines of the trace: send a `traceparent` of ours, which continues the client's. Where tracing is on and
    this is off, `traceparent` and `tracestate` of clients go no further."""
    queue: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    """Requests that may wait to be sent. Those that come while the collector is too slow or away are not told of."""

"""A request that is over as spans: one for the request, one below it for each attempt. Imports OpenTelemetry.

Names are those of OpenTelemetry's semantic conventions (HTTP, generative AI; read 2026-11) where they have one, else
ours with `vastproxy.` before them. No prompt, no answer, no key and no query is in a span.
"""

from collections.abc import Callable, Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from vastproxy import __version__
from vastproxy.services.dispatch.claim import NEVER, Claim, Lease
from vastproxy.services.errors import Cancelled
from vastproxy.services.metrics.operations import OTHER, operation_of
from vastproxy.services.tracing.context import Trace, attempt_id
from vastproxy.services.tracing.ended import Ended

_SCOPE = InstrumentationScope("vastproxy", __version__)
_LEFT = 499

Attributes = dict[str, str | int | float | bool]


def resource_of(environ: Mapping[str, str]) -> Resource:
    """Who tells all this: `vastproxy`, unless OpenTelemetry's own variables say otherwise."""
    named = "OTEL_SERVICE_NAME" in environ or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    given = {"service.version": __version__} | ({} if named else {"service.name": "vastproxy"})
    return Resource.create(given)


def spans_of(ended: Ended, resource: Resource, nanoseconds: Callable[[float], int]) -> list[ReadableSpan]:
    """The spans of one request, its own first. `nanoseconds` since 1970 of a time of the claim."""
    claim, trace = ended.claim, ended.trace
    root = _context(trace, trace.span_id)
    parent = None
    if trace.parent is not None:
        parent = _context(trace, trace.parent.span_id, is_remote=True)
    operation = operation_of(ended.path)
    name = _clean(" ".join(filter(None, [_verb(operation, claim.method), ended.model])))
    first = _event("first byte", claim.first_byte_at, nanoseconds)
    mine = ReadableSpan(
        name,
        context=root,
        parent=parent,
        resource=resource,
        attributes=_cleaned(_attributes(ended, operation)),
        events=first,
        kind=SpanKind.SERVER,
        status=_status(claim),
        start_time=nanoseconds(claim.began_at),
        end_time=nanoseconds(claim.ended_at),
        instrumentation_scope=_SCOPE,
    )
    return [mine, *(_attempt(lease, ended, root, resource, nanoseconds) for lease in claim.leases)]


def _attempt(
    lease: Lease,
    ended: Ended,
    root: SpanContext,
    resource: Resource,
    nanoseconds: Callable[[float], int],
) -> ReadableSpan:
    over = lease.ended_at if lease.ended_at != NEVER else ended.claim.ended_at
    good = lease.outcome in ("answered", "left", "cancelled", "")
    return ReadableSpan(
        _clean(f"attempt {ended.model}") if ended.model else "attempt",
        context=_context(ended.trace, attempt_id(ended.trace, lease)),
        parent=root,
        resource=resource,
        attributes=_cleaned(_attempt_attributes(lease, ended)),
        events=[
            *_event("connected", lease.connected_at, nanoseconds),
            *_event("first byte", lease.first_byte_at, nanoseconds),
        ],
        kind=SpanKind.CLIENT,
        status=Status(StatusCode.UNSET)
        if good
        else Status(StatusCode.ERROR, _clean(lease.error or lease.outcome)),
        start_time=nanoseconds(lease.at),
        end_time=nanoseconds(max(over, lease.at)),
        instrumentation_scope=_SCOPE,
    )


def _attributes(ended: Ended, operation: str) -> Attributes:
    claim = ended.claim
    told: Attributes = {
        "http.request.method": claim.method.decode("latin-1"),
        "url.path": ended.path.decode("latin-1"),
        "http.request.body.size": claim.received_bytes,
        "http.response.body.size": claim.sent_bytes,
        "vastproxy.request.id": claim.request_id.decode("latin-1"),
        "vastproxy.attempts": claim.attempts,
        "vastproxy.queue.duration": claim.queued_s,
        "vastproxy.streamed": ended.streamed,
        **_generation(ended, operation),
    }
    if claim.status:
        told["http.response.status_code"] = claim.status
    if ended.client:
        told["client.address"] = ended.client
    if ended.key is not None:
        told["vastproxy.key"] = ended.key
    if claim.lease is not None:
        told["vastproxy.instance.id"] = claim.lease.backend.id
    if ended.tokens_in is not None:
        told["gen_ai.usage.input_tokens"] = ended.tokens_in
    if ended.tokens_out is not None:
        told["gen_ai.usage.output_tokens"] = ended.tokens_out
    if (kind := _error(claim)) is not None:
        told["error.type"] = kind
    return told


def _attempt_attributes(lease: Lease, ended: Ended) -> Attributes:
    engine = lease.engine
    told: Attributes = {
        **_generation(ended, operation_of(ended.path)),
        "gen_ai.provider.name": engine.kind.value,
        "server.port": engine.port,
        "vastproxy.instance.id": lease.backend.id,
        "vastproxy.connection.reused": lease.reused,
        "vastproxy.reason": lease.choice.why,
        "vastproxy.outcome": lease.outcome or "left",
    }
    if lease.path:
        told["vastproxy.via"] = lease.path
    if lease.outcome in ("failed", "refused"):
        told["error.type"] = lease.outcome
    return told


def _cleaned(told: Attributes) -> Attributes:
    return {name: _clean(value) if isinstance(value, str) else value for name, value in told.items()}


def _clean(text: str) -> str:
    """Half a surrogate, which JSON can hold, would make the exporter drop all that is sent with it."""
    return text.encode("utf-8", "backslashreplace").decode()


def _generation(ended: Ended, operation: str) -> Attributes:
    told: Attributes = {}
    if operation != OTHER:
        told["gen_ai.operation.name"] = operation
    if ended.model is not None:
        told["gen_ai.request.model"] = ended.model
    return told


def _verb(operation: str, method: bytes) -> str:
    return method.decode("latin-1") if operation == OTHER else operation


def _error(claim: Claim) -> str | None:
    if claim.error_code is not None:
        return claim.error_code
    if claim.status == _LEFT:
        return "client_left"
    return str(claim.status) if claim.status >= 400 else None


def _status(claim: Claim) -> Status:
    """An error is what the server did wrong: of what the client did, or its operator, `error.type` tells."""
    if claim.error_code == Cancelled.code:
        return Status(StatusCode.UNSET)
    if claim.status >= 500 or (claim.status < 400 and claim.error_code is not None):
        return Status(StatusCode.ERROR, claim.error_code or "")
    return Status(StatusCode.UNSET)


def _event(name: str, at: float, nanoseconds: Callable[[float], int]) -> list[Event]:
    return [] if at == NEVER else [Event(name, timestamp=nanoseconds(at))]


def _context(trace: Trace, span_id: int, *, is_remote: bool = False) -> SpanContext:
    state = None
    if trace.parent is not None and trace.parent.state:
        state = TraceState.from_header([trace.parent.state.decode("ascii")])
    flags = TraceFlags(TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT)
    return SpanContext(trace.trace_id, span_id, is_remote, flags, state)

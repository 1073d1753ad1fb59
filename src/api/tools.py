"""What all requests on their way share: the fleet, the limits, and how a request is written for an engine."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from vastproxy.api.access import AccessLog, Tried, clipped
from vastproxy.api.client import Client
from vastproxy.api.errors import ApiError, denied_path, too_large
from vastproxy.api.forwarded import Forwarding
from vastproxy.api.guest import Guest
from vastproxy.api.http.request import Request
from vastproxy.api.upload import Asking, Rename, Upload
from vastproxy.api.wishes import Wishes, content_type
from vastproxy.services.access.callers import Caller
from vastproxy.services.backends.abort import Aborter
from vastproxy.services.backends.engine import Engine
from vastproxy.services.backends.engines import EngineKind
from vastproxy.services.backends.rids import may_carry
from vastproxy.services.backends.tunnel_fetch import TunnelFetch
from vastproxy.services.dispatch.claim import NEVER, Claim, Lease
from vastproxy.services.errors import BackendTimeout
from vastproxy.services.fleet import Fleet
from vastproxy.services.http1.headers import request_message, sent_lines
from vastproxy.services.ledger.ledger import Ledger
from vastproxy.services.metrics.operations import is_stream, operation_of
from vastproxy.services.metrics.requests import RequestMetrics
from vastproxy.services.metrics.usage import usage_of
from vastproxy.services.routing.ask_usage import PATHS
from vastproxy.services.routing.paths import is_denied
from vastproxy.services.tasks import Tasks
from vastproxy.services.threads import in_thread
from vastproxy.services.tracing.context import TRACE_HEADERS
from vastproxy.services.tracing.tracing import Tracing
from vastproxy.services.upstream.response import ResponseHead

logger = logging.getLogger(__name__)

#: By its name alone: in CPython 3.11 looking it up in its class costs five times as much.
_SGLANG = EngineKind.SGLANG
#: Engines that tell the usage of a stream to who asks, and how they are asked.
_TELLING = {
    EngineKind.SGLANG: Asking(spare_timings=False),
    EngineKind.VLLM: Asking(spare_timings=False),
    EngineKind.LLAMACPP: Asking(spare_timings=True),
}
_CAME_TO_NOTHING = frozenset({"failed", "refused"})


class ProxyTools:
    """Owns the tasks that open connections and tell engines to stop."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        access_log: AccessLog,
        metrics: RequestMetrics | None = None,
        tracing: Tracing | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        server = fleet.settings.server
        self.dispatcher = fleet.dispatcher
        self.noted = fleet.dispatcher.targets.passive.noted
        self.traces = fleet.traces
        self.wishes = Wishes(fleet.settings.routing)
        self._allow_paths = frozenset(server.allow_paths)
        self._forwarding = Forwarding(server.forwarded)
        self._tasks = Tasks("proxy")
        self._aborter = Aborter()
        self.limits = fleet.settings.upstream
        self.max_body_bytes = server.max_body_bytes
        self.now = fleet.clock
        self.wall_clock = time.time
        self.access_log = access_log
        self.note = (ledger or Ledger()).note
        self._telling = _TELLING if fleet.settings.ledger.ask_usage else {}
        self.finished = (metrics or RequestMetrics()).finished
        self.tracing = tracing
        self.traced = tracing.lines if tracing is not None and tracing.propagate else None
        """What an engine is told of the trace; None where it is told nothing."""

    async def aclose(self) -> None:
        """End what is under way, after the server has stopped."""
        await self._aborter.aclose()
        await self._tasks.aclose()
        if self.tracing is not None:
            await in_thread(self.tracing.close, name="tracing end")

    def refusal(self, request: Request, guest: Guest | None = None) -> ApiError | None:
        """Why this request is not proxied, if it is not. One that is counts for `guest`, until he leaves."""
        length = request.framing.length
        if length is not None and length > self.max_body_bytes:
            return too_large(self.max_body_bytes)
        facts = request.facts
        if facts.is_proxied is None:
            method = request.method.decode("latin-1")
            facts.is_proxied = not is_denied(request.path, self._allow_paths, method=method)
        if not facts.is_proxied:
            return denied_path(request.path.decode("latin-1"))
        return None if guest is None else guest.enter(self.now())

    def compose(
        self,
        request: Request,
        upload: Upload,
        engine: Engine,
        client: Client,
        request_id: bytes,
        *,
        expect: bool,
        model: str | None = None,
        traced: bytes = b"",
        streams: bool = False,
    ) -> bytes:
        """The request as it is written to this engine: the head, and what has come of the body. `model`: what it shall
        ask for instead of what it does. `traced`: header lines of its trace. `streams`: does it ask for a stream?"""
        carrying = engine.target.kind is _SGLANG and may_carry(
            request.method.decode("latin-1"), request.target, request.headers
        )
        renaming = None if model is None else Rename(model, content_type(request))
        asking = self._telling.get(engine.target.kind) if streams and request.path in PATHS else None
        length, body = upload.begin(request.target if carrying else None, renaming, asking)
        sent = request.facts.sent_lines
        if sent is None:
            sent = request.facts.sent_lines = self._sent_lines(request, client)
        last = b"x-request-id: " + request_id + (b"\r\nexpect: 100-continue\r\n" if expect else b"\r\n")
        if traced:
            last += traced
        return request_message(request.method, request.target, engine.request_lines, sent, last, length, body)

    def _sent_lines(self, request: Request, client: Client) -> bytes:
        fields = request.fields
        if self.tracing is not None:  # what engines are told of traces, we say ourselves
            fields = [each for each in fields if each.header[0] not in TRACE_HEADERS]
        lines = sent_lines(fields, request.connection) + self._forwarding.lines(request, client)
        if request.upgrade:
            return lines + b"connection: upgrade\r\nupgrade: %b\r\n" % request.upgrade
        if request.takes_trailers:
            return lines + b"connection: te\r\nte: trailers\r\n"
        return lines

    def abort(self, lease: Lease, rid: str, close: Callable[[], None]) -> None:
        """Have the engine end the request that it knows as `rid`, then `close` its stream."""
        tunnel, engine = lease.backend.tunnel, lease.engine
        if tunnel is None or not tunnel.is_alive:
            close()
            return
        fetch = TunnelFetch(tunnel)
        self._aborter.abort(fetch, engine.kind, engine.port, rid, token=lease.backend.token, close=close)

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> "asyncio.Task[None]":
        """A task of the proxy's."""
        return self._tasks.spawn(work, name=name)

    @staticmethod
    def call_later(delay_s: float, work: Callable[[], None]) -> asyncio.TimerHandle:
        """A timer of the running loop's."""
        return asyncio.get_running_loop().call_later(delay_s, work)

    def took_too_long(self) -> BackendTimeout:
        """What an answer is ended with that is not complete in time."""
        text = (
            f"the answer was not complete within {self.limits.total_timeout_s:g} s (upstream.total_timeout_s)"
        )
        return BackendTimeout(text, phase="total")

    @staticmethod
    def refuse(client: Client, error: ApiError, lines: bytes, *, has_body: bool) -> int:
        """Answer with `error`, whole. Returns the bytes of the body that were sent."""
        body = error.body()
        data = body if has_body else b""
        head = error.lines(len(body)) + lines
        client.respond(error.status, head, length=len(body), has_body=has_body, data=data, last=True)
        return len(data)

    def ended(
        self,
        claim: Claim,
        request: Request,
        received_bytes: int,
        client: str,
        head: ResponseHead | None,
        last: bytes,
        before: bytes,
    ) -> int:
        """A request has ended: one line in the access log, one more in the metrics, and the end of its story. `head` is
        of the answer that the engine gave, `last` and `before` are the last pieces of its body. Returns the tokens that
        it took, prompt and answer, as far as the engine has told."""
        now = claim.ended_at = self.now()
        claim.received_bytes = received_bytes
        began, first, need, pieces = claim.began_at, claim.first_byte_at, claim.need, claim.pieces
        instance_id, via = (None, "") if (lease := claim.lease) is None else (lease.backend.id, lease.path)
        label = None if need is None else need.label
        tokens_in, tokens_out = (None, None) if head is None else usage_of(last, before)
        streamed = pieces > 1 and head is not None and is_stream(head.lines)
        attempts = len(claim.leases) + claim.left_out
        ttfb_s = first - began if first != NEVER else None
        path, caller = request.path, request.facts.admitted_by
        key = caller.name if isinstance(caller, Caller) else None
        model = label or _wished(claim)
        operation = operation_of(path)
        is_tried = attempts > 1 or (lease is not None and lease.outcome != "answered")
        tried = _tried(claim) if is_tried else ()
        # fmt: off
        if instance_id is not None:
            self.note((
                instance_id, label, key, operation, claim.status, claim.error_code, tokens_in, tokens_out, pieces,
                streamed, received_bytes, claim.sent_bytes, ttfb_s, now - began,
            ))
        self.finished(
            operation, label, instance_id, claim.status, claim.error_code, attempts,
            None if need is None else claim.queued_s, ttfb_s, now - began, received_bytes, claim.sent_bytes,
            tokens_in, tokens_out, pieces, streamed,
        )
        self.access_log.log(
            claim.request_id, claim.method, path, key, model, instance_id, via,
            claim.status, claim.error_code, streamed, claim.sent_bytes, received_bytes, attempts, claim.queued_s,
            ttfb_s, now - began, tokens_in, tokens_out, client, tried,
        )
        if self.tracing is not None:
            self.tracing.ended(
                claim, request.headers, path, key, clipped(model) if model else None, tokens_in, tokens_out,
                streamed, client,
            )
        # fmt: on
        return (tokens_in or 0) + (tokens_out or 0)

    @staticmethod
    def log_broken(claim: Claim, error: Exception) -> None:
        """An answer that had begun did not come to its end."""
        instance_id = claim.lease.backend.id if claim.lease is not None else None
        logger.warning(
            "%s instance=%s the answer broke off: %s", claim.request_id.decode("latin-1"), instance_id, error
        )


def _wished(claim: Claim) -> str | None:
    """The model that was asked for, though the fleet does not tell of one by that name."""
    return clipped(claim.model) if claim.model else None


def _tried(claim: Claim) -> list[Tried]:
    """The attempts that came to nothing, none of them because the client left."""
    tried = [(lease.backend.id, lease.outcome, lease.error) for lease in claim.leases]
    return [each for each in tried if each[1] in _CAME_TO_NOTHING]

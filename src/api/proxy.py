"""The balancing proxy: one request in, one backend's answer out. Raw ASGI, because this is the way every token takes.

The way of a request, in order:

1. refuse what is not proxied (engine paths that leak or change state, a body announced too large);
2. lease a backend – counted from here until `release`, in `finally`;
3. a connection from its pool, the head and what has come of the body in one write;
4. the rest of the body goes up while the answer may already come down;
5. the answer's head, then each piece as it arrives; the next is read when the client took the last one.

When an attempt fails, `retry.decide` says whether the same bytes may be sent again. When the client leaves, the
upstream connection ends at once, the lease is given back, and nothing counts as a failure.
"""

import asyncio
import time
from typing import Any

from starlette.types import Receive, Scope

from vastproxy.api.body import BodyTooLarge, ClientDisconnected
from vastproxy.api.errors import ApiError, Send, denied_path, from_exception, send_error, too_large
from vastproxy.api.exchange import (
    OURS,
    Exchange,
    access_log,
    describe,
    is_plain_sse,
    log_access,
    own_headers,
)
from vastproxy.services.backends.backend import Lease
from vastproxy.services.errors import BackendError, ServiceError
from vastproxy.services.fleet import Fleet
from vastproxy.services.routing.paths import is_denied
from vastproxy.services.routing.retry import Retry, decide
from vastproxy.services.tasks import Tasks
from vastproxy.services.upstream.connection import ResponseHead, UpstreamConnection
from vastproxy.services.upstream.headers import LAST_CHUNK, build_request_head, chunk, response_headers


class ProxyApp:
    """ASGI application. `tasks` owns the watchers of requests; close it when the server has stopped."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._limits = fleet.settings.upstream
        self._max_body = fleet.settings.server.max_body_bytes
        self._allow_paths = frozenset(fleet.settings.server.allow_paths)
        self._clock = fleet.clock
        self._tasks = Tasks("proxy")

    async def aclose(self) -> None:
        await self._tasks.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        exchange = describe(scope, receive, max_body_bytes=self._max_body)
        if exchange.length is not None and exchange.length > self._max_body:
            await self._refuse(exchange, send, too_large(self._max_body))
        elif is_denied(scope["raw_path"], self._allow_paths, method=scope["method"]):
            await self._refuse(exchange, send, denied_path(scope["path"]))
        else:
            await self._serve(exchange, send)
        log_access(exchange, time.perf_counter() - began)

    async def _refuse(self, exchange: Exchange, send: Send, error: ApiError) -> None:
        exchange.started, exchange.status = True, error.status
        await send_error(send, error, own_headers(exchange))

    # ── attempts ───────────────────────────────────────────────────────────────────────────────

    async def _serve(self, exchange: Exchange, send: Send) -> None:
        try:
            await exchange.body.read()
            while await self._attempt(exchange, send):
                pass
        except ClientDisconnected:
            exchange.status = ClientDisconnected.status
        except BodyTooLarge:
            if not exchange.started:
                await self._refuse(exchange, send, too_large(self._max_body))
        except ServiceError as error:
            await self._give_up(exchange, send, error)

    async def _attempt(self, exchange: Exchange, send: Send) -> bool:
        """Try once. True: try again. Raises what shall be answered."""
        lease = self._lease(exchange)
        fresh = False
        try:
            while True:
                connection: UpstreamConnection | None = None
                try:
                    exchange.attempts += 1
                    connection = await lease.backend.pool.acquire(fresh=fresh)
                    await self._exchange(exchange, lease, connection, send)
                    if exchange.uploaded:  # else the engine answered early and still waits for the rest
                        lease.backend.pool.release(connection)
                        connection = None
                    return False
                except BackendError as error:
                    verdict = decide(
                        error,
                        reused=connection is not None and connection.requests > 1,
                        replayable=exchange.body.held is not None,
                        response_started=exchange.started,
                        attempts_left=self._limits.max_attempts - exchange.attempts,
                    )
                    if verdict is not Retry.SAME_BACKEND:
                        lease.failed()
                    if verdict is Retry.NO:
                        raise
                    if verdict is Retry.ELSEWHERE:
                        exchange.tried.add(lease.backend.id)
                        return True
                    fresh = True
                finally:
                    if connection is not None:
                        connection.abort()
        finally:
            lease.release()

    def _lease(self, exchange: Exchange) -> Lease:
        lease = self._fleet.lease(pin=exchange.pin, exclude=exchange.tried)
        exchange.instance_id = lease.backend.id
        return lease

    async def _give_up(self, exchange: Exchange, send: Send, error: ServiceError) -> None:
        """Tell the client. After the first byte of an answer that cannot be a status any more."""
        answer = from_exception(error)
        if not exchange.started:
            await self._refuse(exchange, send, answer)
            return
        access_log.warning(
            "%s instance=%s the answer broke off: %s",
            exchange.request_id.decode(),
            exchange.instance_id,
            error,
        )
        if exchange.sse:
            # An event that was cut in the middle must end, or ours would be read as a part of it.
            gap = b"" if exchange.tail.endswith((b"\n\n", b"\r\n\r\n")) or not exchange.tail else b"\n\n"
            await send({"type": "http.response.body", "body": gap + answer.sse_event(), "more_body": True})
        # Returning without an end makes the server close the connection: never a clean end of half an answer.

    # ── one attempt ────────────────────────────────────────────────────────────────────────────

    async def _exchange(
        self, exchange: Exchange, lease: Lease, connection: UpstreamConnection, send: Send
    ) -> None:
        exchange.connection = connection
        helper: asyncio.Task[None] | None = None
        try:
            self._begin(exchange, lease, connection)
            if exchange.body.complete:
                helper = self._tasks.spawn(self._watch(exchange), name="watch")
            else:
                helper = self._tasks.spawn(self._upload(exchange, connection), name="upload")
            head = await connection.response(
                timeout_s=self._limits.headers_timeout_s, idle_timeout_s=self._limits.idle_timeout_s
            )
            await self._relay(exchange, lease, connection, head, send)
        finally:
            exchange.connection = None
            if helper is not None:
                helper.cancel()

    def _begin(self, exchange: Exchange, lease: Lease, connection: UpstreamConnection) -> None:
        held = exchange.body.held
        if held is None:
            raise BackendError("the request is too long to be sent a second time")
        backend = lease.backend
        assert backend.target is not None
        exchange.uploaded = exchange.body.complete
        length = len(held) if exchange.body.complete else exchange.length
        head = build_request_head(
            exchange.method.encode("ascii"),
            exchange.target,
            exchange.headers,
            host=b"127.0.0.1:%d" % backend.target.port,
            request_id=exchange.request_id,
            token=backend.token.encode("latin-1", "replace") if backend.token else None,
            content_length=length,
        )
        connection.begin(
            head + (chunk(held) if length is None else held), head_only=exchange.method == "HEAD"
        )

    async def _upload(self, exchange: Exchange, connection: UpstreamConnection) -> None:
        """Send the rest of the body as it comes, then watch the client."""
        try:
            while not exchange.body.complete:
                data = await exchange.body.read()
                connection.write(chunk(data) if exchange.length is None else data)
                await connection.drain()
            if exchange.length is None:
                connection.write(LAST_CHUNK)
            exchange.uploaded = True
        except BackendError:
            return  # the reading side hears of it, and may still find an answer that was sent before
        except (ClientDisconnected, BodyTooLarge) as error:
            connection.abort(error)
            return
        await self._watch(exchange)

    async def _watch(self, exchange: Exchange) -> None:
        """End the upstream connection when the client leaves."""
        await exchange.body.wait_for_disconnect()
        if exchange.connection is not None:
            exchange.connection.abort(ClientDisconnected("the client left"))

    async def _relay(
        self,
        exchange: Exchange,
        lease: Lease,
        connection: UpstreamConnection,
        head: ResponseHead,
        send: Send,
    ) -> None:
        headers = response_headers(head.headers)
        exchange.sse = is_plain_sse(headers)
        exchange.started, exchange.status = True, head.status
        if head.status in (204, 304):
            headers = [pair for pair in headers if pair[0] != b"content-length"]
        start: dict[str, Any] = {"type": "http.response.start", "status": head.status}
        start["headers"] = [pair for pair in headers if pair[0] not in OURS] + own_headers(exchange)
        await send(start)
        backend = lease.backend
        while not connection.finished:
            data = await connection.read()
            backend.last_answer_at = self._clock()
            exchange.sent_bytes += len(data)
            exchange.tail = data[-4:]
            body = {"type": "http.response.body", "body": data, "more_body": not connection.finished}
            await send(body)

"""The attempts to have one request answered: a lease, a connection, what was tried, and whether to try again."""

import asyncio
import logging

from vastproxy.api.client import Client
from vastproxy.api.http.request import Request
from vastproxy.api.owner import Owner
from vastproxy.api.tools import ProxyTools
from vastproxy.api.upload import Upload
from vastproxy.services.dispatch.claim import Claim, Lease
from vastproxy.services.errors import (
    BackendConnectError,
    BackendError,
    NoStreamLeft,
    ResponseInterrupted,
    ServiceError,
    TokenNotAccepted,
)
from vastproxy.services.routing.retry import Retry, costs, decide, decide_answer, is_repeatable, retry_after_s
from vastproxy.services.routing.speed import MIN_SECONDS
from vastproxy.services.traces import Attempt, Trace
from vastproxy.services.upstream.connection import UpstreamConnection
from vastproxy.services.upstream.response import ResponseHead

logger = logging.getLogger(__name__)

_NOT_BEGUN = frozenset({401, 429, 503})


class Attempts(Claim):
    """One request on the engines' side. At most one attempt is under way."""

    __slots__ = (
        "_attempt",
        "_client",
        "_opening",
        "_owner",
        "_request",
        "_request_id",
        "_tools",
        "_trace",
        "_upload",
        "connection",
        "count",
        "instance_id",
    )

    def __init__(
        self,
        tools: ProxyTools,
        owner: Owner,
        request: Request,
        upload: Upload,
        client: Client,
        request_id: bytes,
        trace: Trace,
    ) -> None:
        super().__init__()
        self._tools = tools
        self._owner = owner
        self._request = request
        self._upload = upload
        self._client = client
        self._request_id = request_id
        self._trace = trace
        self._attempt: Attempt | None = None
        self._opening: asyncio.Task[None] | None = None
        self.connection: UpstreamConnection | None = None
        """The connection on which the request was sent, until it is answered or dropped."""
        self.instance_id: int | None = None
        """Who was asked last."""
        self.count = 0

    def lines(self) -> bytes:
        """What the client is told about its request, on answers and on errors alike, as header lines."""
        if self.instance_id is None:
            return b"x-request-id: %b\r\n" % self._request_id
        return b"x-request-id: %b\r\nx-vastproxy-instance: %d\r\n" % (self._request_id, self.instance_id)

    # ── a place ────────────────────────────────────────────────────────────────────────────────

    def dispatch(self) -> None:
        """Ask for a place, at whoever is the best for it."""
        try:
            lease = self._tools.dispatcher.ask(self)
        except ServiceError as error:
            self._owner.given_up(error)
            return
        self._go_on(lease)

    def _dispatch_elsewhere(self, *, costly: bool) -> None:
        try:
            lease = self._tools.dispatcher.try_elsewhere(self, costly=costly)
        except ServiceError as error:
            self._owner.given_up(error)
            return
        self._go_on(lease)

    def _go_on(self, lease: Lease | None) -> None:
        if lease is None:
            self._owner.attempt_waits()
        else:
            self.granted(lease)

    def granted(self, lease: Lease) -> None:
        """See `Claim.granted`."""
        self._owner.attempt_begun()
        self.instance_id = lease.backend.id
        self._connect(lease, fresh=False)

    def refused(self, error: ServiceError) -> None:
        """See `Claim.refused`."""
        self._owner.given_up(error)

    # ── what becomes of an attempt ─────────────────────────────────────────────────────────────

    def answered(self, head: ResponseHead) -> bool:
        """The head of an answer has come. Is it for the client? If not, another backend is being asked."""
        status = head.status
        if status >= 400 and status in _NOT_BEGUN and self._not_begun(head):
            return False
        self._tools.dispatcher.answered(self, status)
        if self._attempt is not None:
            self._attempt.first_byte_at = self._tools.now()
        return True

    def _not_begun(self, head: ResponseHead) -> bool:
        """It says that it has not begun: has somebody else been asked, or the request been given up?"""
        tools, request, status = self._tools, self._request, head.status
        dispatcher = tools.dispatcher
        verdict = decide_answer(
            status,
            replayable=self._upload.replayable,
            repeatable=is_repeatable(request.method, request.path),
            others=dispatcher.others(self),
            attempts_left=tools.limits.max_attempts - self.count,
            budget_left=dispatcher.may_retry,
        )
        if verdict is not Retry.ELSEWHERE and status != 401:
            return False
        asked_s = retry_after_s(dict(head.headers).get(b"retry-after"), tools.wall_clock())
        dispatcher.answered(self, status, asked_s)
        assert self.lease is not None
        error = TokenNotAccepted(
            f"the engine of instance {self.lease.backend.id} does not accept the proxy's token (HTTP {status}); "
            "its operator can set engines.api_key"
        )
        self._end_attempt("refused", error if status == 401 else f"HTTP {status}")
        self._drop_connection(is_dead=True)
        if verdict is Retry.ELSEWHERE:
            self.tried.add(self.lease.engine.key)
            self._dispatch_elsewhere(costly=True)
        else:
            self._owner.given_up(error)
        return True

    def failed(self, error: BackendError, *, answered: bool) -> None:
        """The attempt under way came to nothing. `answered`: the client has been sent something."""
        lease, connection = self.lease, self.connection
        assert lease is not None
        request, dispatcher = self._request, self._tools.dispatcher
        way_left = lease.backend.available
        verdict = decide(
            error,
            reused=connection is not None and connection.requests > 1,
            replayable=self._upload.replayable,
            repeatable=is_repeatable(request.method, request.path),
            way_left=way_left,
            response_started=answered,
            attempts_left=self._tools.limits.max_attempts - self.count,
            budget_left=dispatcher.may_retry,
        )
        self._end_attempt("failed", error)
        gone = isinstance(error, ResponseInterrupted) and not (error.way_lost and way_left)
        self._drop_connection(is_dead=gone)
        if verdict is Retry.SAME_BACKEND:
            self._owner.attempt_begun()
            self._connect(lease, fresh=True)
            return
        if not isinstance(error, NoStreamLeft):
            dispatcher.failed(self, error, reached=answered)
        if verdict is Retry.ELSEWHERE:
            self._dispatch_elsewhere(costly=costs(verdict, error))
        else:
            self._owner.given_up(error)

    def finish(self, head: ResponseHead | None, *, reusable: bool) -> None:
        """The answer has come whole. `head`: of one that says how fast its engine is. The connection may serve others
        if `reusable`."""
        connection, self.connection = self.connection, None
        assert connection is not None
        assert connection.home is not None
        self._end_attempt("answered")
        if head is not None and self._request.method == b"POST" and head.status == 200:
            self._measure(streamed=head.length is None)
        if reusable:
            connection.home.release(connection)
        else:
            connection.abort()
        self._tools.dispatcher.finish(self)

    def _measure(self, *, streamed: bool) -> None:
        trace, lease = self._trace, self.lease
        assert lease is not None
        since = trace.first_byte_at if streamed else trace.attempts[-1].started_at
        seconds = self._tools.now() - since
        if seconds >= MIN_SECONDS:
            self._tools.dispatcher.targets.measured(lease, seconds, trace.sent_bytes, streamed=streamed)

    def end(self) -> None:
        """Nothing more will be tried. Owner and attempts refer to each other, which only the garbage collector would
        find out, and late."""
        self._tools.dispatcher.finish(self)
        del self._owner

    def drop(self) -> None:
        """Nobody wants the answer any more: the engine is told, the place given back, and nobody blamed."""
        self._end_attempt("left")
        self._drop_connection(is_dead=False)
        self._tools.dispatcher.finish(self)

    def _end_attempt(self, outcome: str, error: object = "") -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.end(outcome, self._tools.now(), str(error) if error else "")

    # ── a connection ───────────────────────────────────────────────────────────────────────────

    def _connect(self, lease: Lease, *, fresh: bool) -> None:
        self.count += 1
        self._attempt = attempt = self._trace.attempt(
            lease.engine.key, self._tools.now(), lease.choice.why, lease.scores
        )
        connection = None if fresh else lease.backend.take(lease.engine.port)
        if connection is not None:
            attempt.reused = True
            self._send(lease, connection)
        else:
            opening = self._tools.spawn(self._open(lease), name="open")
            if not opening.done():  # an eager task may be over, and have begun another one
                self._opening = opening

    async def _open(self, lease: Lease) -> None:
        try:
            connection = await lease.backend.open(lease.engine.port)
        except Exception as error:
            self._opening = None
            if not isinstance(error, BackendError):  # a bug, but somebody waits for an answer
                logger.exception("opening a connection to instance %d failed", lease.backend.id)
                error = BackendConnectError("no connection to the engine could be opened")
            self.failed(error, answered=False)
            return
        self._opening = None
        if self._attempt is not None:
            self._attempt.connected_at = self._tools.now()
        self._send(lease, connection)

    def _send(self, lease: Lease, connection: UpstreamConnection) -> None:
        self.connection = connection
        request, upload, limits = self._request, self._upload, self._tools.limits
        data = self._tools.compose(
            request,
            upload,
            lease.engine,
            self._client,
            self._request_id,
            expect=request.expects_continue and not upload.total_bytes,
            model=lease.wire_name(self.model),
        )
        self._owner.attempt_sent()
        connection.send(
            data,
            self._owner,
            headers_timeout_s=limits.headers_timeout_s,
            idle_timeout_s=limits.idle_timeout_s,
            head_only=request.method == b"HEAD",
            may_switch=bool(request.upgrade),
        )
        if not upload.complete:
            self._owner.engine_writable()

    def _drop_connection(self, *, is_dead: bool) -> None:
        """End what leads to the engine. It is told before its stream is closed, if it is one that must be; `is_dead`:
        it knows, or cannot be told."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        connection, self.connection = self.connection, None
        if connection is None:
            return
        rid = self._upload.rid
        if rid is None or self.lease is None or is_dead:
            connection.abort()
        else:
            connection.forget()
            self._tools.abort(self.lease, rid, connection.abort)

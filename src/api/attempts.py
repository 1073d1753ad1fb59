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
from vastproxy.services.upstream.connection import UpstreamConnection
from vastproxy.services.upstream.response import ResponseHead

logger = logging.getLogger(__name__)

_NOT_BEGUN = frozenset({401, 429, 503})


class Attempts(Claim):
    """One request on the engines' side. At most one attempt is under way."""

    __slots__ = (
        "_client",
        "_opening",
        "_owner",
        "_relayed_last",
        "_request",
        "_tools",
        "_upload",
        "connection",
    )

    def __init__(
        self,
        tools: ProxyTools,
        owner: Owner,
        request: Request,
        upload: Upload,
        client: Client,
        request_id: bytes,
    ) -> None:
        super().__init__(tools.now(), request_id, request.method, request.target)
        self._tools = tools
        self._owner = owner
        self._request = request
        self._upload = upload
        self._client = client
        self._opening: asyncio.Task[None] | None = None
        self._relayed_last = False
        self.connection: UpstreamConnection | None = None
        """The connection on which the request was sent, until it is answered or dropped."""

    @property
    def instance_id(self) -> int | None:
        """Who was asked last."""
        return self.lease.backend.id if self.lease is not None else None

    def lines(self) -> bytes:
        """What the client is told about its request, on answers and on errors alike, as header lines."""
        if (lease := self.lease) is None:
            return b"x-request-id: %b\r\n" % self.request_id
        return b"x-request-id: %b\r\nx-vastproxy-instance: %d\r\n" % (self.request_id, lease.backend.id)

    # ── a place ────────────────────────────────────────────────────────────────────────────────

    def dispatch(self) -> None:
        """Ask for a place, at whoever is the best for it."""
        try:
            lease = self._tools.dispatcher.ask(self)
        except ServiceError as error:
            self._owner.given_up(error)
            return
        if lease is None:
            self._owner.attempt_waits()
        else:
            self._owner.attempt_begun()
            self._connect(lease, fresh=False)

    def _dispatch_elsewhere(self, *, costly: bool) -> None:
        try:
            lease = self._tools.dispatcher.try_elsewhere(self, costly=costly)
        except ServiceError as error:
            self._owner.given_up(error)
            return
        if lease is None:
            self._owner.attempt_waits()
        else:
            self.granted(lease)

    def granted(self, lease: Lease) -> None:
        """See `Claim.granted`."""
        self._owner.attempt_begun()
        self._connect(lease, fresh=False)

    def refused(self, error: ServiceError) -> None:
        """See `Claim.refused`."""
        self._owner.given_up(error)

    # ── what becomes of an attempt ─────────────────────────────────────────────────────────────

    def answered(self, head: ResponseHead) -> bool:
        """The head of an answer has come. Is it for the client? If not, another backend is being asked."""
        status, lease = head.status, self.lease
        assert lease is not None
        if status < 400 and not self.budgeted and lease.engine.key not in self._tools.noted:
            lease.heard = True  # as nearly always
            return True
        asked_s = None
        if status in _NOT_BEGUN:
            asked_s = retry_after_s(dict(head.headers).get(b"retry-after"), self._tools.wall_clock())
            if self._not_begun(status, asked_s):
                return False
        self._tools.dispatcher.answered(self, status, asked_s)
        return True

    def _not_begun(self, status: int, asked_s: float | None) -> bool:
        """It says that it has not begun: has somebody else been asked, or the request been given up?"""
        tools, request = self._tools, self._request
        dispatcher = tools.dispatcher
        verdict = decide_answer(
            status,
            replayable=self._upload.replayable,
            repeatable=is_repeatable(request.method, request.path),
            others=dispatcher.others(self),
            attempts_left=tools.limits.max_attempts - self.attempts,
            budget_left=self.budgeted or dispatcher.may_retry,
        )
        if verdict is not Retry.ELSEWHERE and status != 401:
            return False
        dispatcher.answered(self, status, asked_s)
        assert self.lease is not None
        error = TokenNotAccepted(
            f"the engine of instance {self.lease.backend.id} does not accept the proxy's token (HTTP {status}); "
            "its operator can set engines.api_key"
        )
        self.lease.end("refused", tools.now(), str(error) if status == 401 else f"HTTP {status}")
        self._drop_connection(is_dead=True)
        if verdict is Retry.ELSEWHERE:
            self.tried = {*self.tried, self.lease.engine.key}
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
            attempts_left=self._tools.limits.max_attempts - self.attempts,
            budget_left=self.budgeted or dispatcher.may_retry,
        )
        lease.end("failed", self._tools.now(), str(error))
        gone = isinstance(error, ResponseInterrupted) and not (error.way_lost and way_left)
        self._drop_connection(is_dead=gone)
        if verdict is Retry.SAME_BACKEND:
            self._owner.attempt_begun()
            self.lease = lease = lease.again(self._tools.now())
            self.leases.append(lease)
            self._connect(lease, fresh=True)
            return
        if not isinstance(error, NoStreamLeft):
            dispatcher.failed(self, error, reached=answered)
        if verdict is Retry.ELSEWHERE:
            self._dispatch_elsewhere(costly=costs(verdict, error))
        else:
            self._owner.given_up(error)

    def relay(self) -> None:
        """The answer has begun: let whole events go straight to the client, as fast as it reads."""
        connection, client, lease = self.connection, self._client, self.lease
        if connection is not None and lease is not None:
            if (chunks := client.chunks) is not None:
                connection.relay_to(chunks, lease.engine)
            if client.write_paused:
                connection.pause_reading()

    def tail(self, told: bytes) -> bytes:
        """How the answer ends that broke off. `told`: what of it the owner was told last."""
        return b"\n\n" if self._relayed_last else told

    def finish(self, head: ResponseHead | None, *, reusable: bool) -> None:
        """The answer has come whole; `end` follows. `head`: of one that says how fast its engine is. The connection
        may serve others if `reusable`."""
        connection, self.connection = self.connection, None
        lease = self.lease
        assert connection is not None
        assert connection.home is not None
        self.sent_bytes += connection.relayed_bytes
        assert lease is not None
        now = self._tools.now()
        lease.end("answered", now)
        is_good = head is not None and head.status == 200 and self.method == b"POST"
        if now - lease.at >= MIN_SECONDS and head is not None and is_good:
            streamed = head.length is None
            since = self.first_byte_at if streamed else lease.at
            self._tools.dispatcher.targets.measured(lease, now - since, self.sent_bytes, streamed=streamed)
        if reusable:
            connection.home.release(connection)
        else:
            connection.abort()

    def end(self) -> None:
        """Nothing more will be tried: the place is given back. What is left is kept for a while, as the story."""
        self._tools.dispatcher.finish(self)
        del self._owner, self._client, self._upload  # the owner refers to us, too: no cycle shall be left

    def drop(self, why: str = "") -> None:
        """Nobody wants the answer any more: the engine is told, and nobody blamed. `end` follows. `why`: if it is not
        the client's doing, one line for a person."""
        if self.lease is not None:
            self.lease.end("failed" if why else "left", self._tools.now(), why)
        self._drop_connection(is_dead=False)

    # ── a connection ───────────────────────────────────────────────────────────────────────────

    def _connect(self, lease: Lease, *, fresh: bool) -> None:
        connection = None if fresh else lease.backend.take(lease.engine.target.port)
        if connection is not None:
            lease.reused = True
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
        lease.connected_at = self._tools.now()
        self._send(lease, connection)

    def _send(self, lease: Lease, connection: UpstreamConnection) -> None:
        self.connection = connection
        request, upload, limits = self._request, self._upload, self._tools.limits
        data = self._tools.compose(
            request,
            upload,
            lease.engine,
            self._client,
            self.request_id,
            expect=request.expects_continue and not upload.total_bytes,
            model=lease.wire_name(self.model) if lease.need.renames else None,
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
        self.sent_bytes += connection.relayed_bytes
        self._relayed_last = connection.relayed_last
        rid = self._upload.rid
        if rid is None or self.lease is None or is_dead:
            connection.abort()
        else:
            connection.forget()
            self._tools.abort(self.lease, rid, connection.abort)

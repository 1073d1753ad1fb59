"""The attempts to have one request answered: a lease, a connection, what was tried, and whether to try again."""

import asyncio
import logging
from typing import Protocol

from vastproxy.api.client import Client
from vastproxy.api.http.request import Request
from vastproxy.api.tools import ProxyTools
from vastproxy.api.upload import Upload
from vastproxy.services.backends.backend import Lease
from vastproxy.services.errors import (
    BackendConnectError,
    BackendError,
    NoStreamLeft,
    ResponseInterrupted,
    ServiceError,
)
from vastproxy.services.routing.retry import Retry, decide, is_repeatable
from vastproxy.services.upstream.connection import UpstreamConnection
from vastproxy.services.upstream.sink import Sink

logger = logging.getLogger(__name__)


class Owner(Sink, Protocol):
    """Whose attempts they are: the sink of the answers, and these."""

    def attempt_begun(self) -> None:
        """A backend is being asked, once more perhaps."""

    def attempt_sent(self) -> None:
        """The request, or its beginning, was written."""

    def given_up(self, error: ServiceError) -> None:
        """Nothing more will be tried. Nothing is leased."""


class Attempts:
    """One request on the engines' side. At most one attempt is under way."""

    __slots__ = (
        "_client",
        "_opening",
        "_owner",
        "_pin",
        "_request",
        "_request_id",
        "_tools",
        "_tried",
        "_upload",
        "connection",
        "count",
        "instance_id",
        "lease",
    )

    def __init__(
        self,
        tools: ProxyTools,
        owner: Owner,
        request: Request,
        upload: Upload,
        client: Client,
        request_id: bytes,
        pin: int | None,
    ) -> None:
        self._tools = tools
        self._owner = owner
        self._request = request
        self._upload = upload
        self._client = client
        self._request_id = request_id
        self._pin = pin
        self._tried: set[int] = set()
        self._opening: asyncio.Task[None] | None = None
        self.lease: Lease | None = None
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

    def dispatch(self) -> None:
        """Ask a backend that has not been asked."""
        self._owner.attempt_begun()
        try:
            self.lease = lease = self._tools.lease(self._pin, self._tried)
        except ServiceError as error:
            self._owner.given_up(error)
            return
        self.instance_id = lease.backend.id
        self._connect(lease, fresh=False)

    def failed(self, error: BackendError, *, answered: bool) -> None:
        """The attempt under way came to nothing. `answered`: the client has been sent something."""
        lease, connection = self.lease, self.connection
        assert lease is not None
        request = self._request
        verdict = decide(
            error,
            reused=connection is not None and connection.requests > 1,
            replayable=self._upload.replayable,
            repeatable=is_repeatable(request.method, request.path),
            way_left=lease.backend.available,
            response_started=answered,
            attempts_left=self._tools.limits.max_attempts - self.count,
        )
        gone = isinstance(error, ResponseInterrupted) and not (error.way_lost and lease.backend.available)
        self._drop_connection(is_dead=gone)
        if verdict is Retry.SAME_BACKEND:
            self._owner.attempt_begun()
            self._connect(lease, fresh=True)
            return
        if not isinstance(error, NoStreamLeft):
            lease.failed()
        lease.release()
        if verdict is Retry.ELSEWHERE:
            self._tried.add(lease.backend.id)
            self.dispatch()
        else:
            self._owner.given_up(error)

    def finish(self, *, reusable: bool) -> None:
        """The answer has come whole. The connection may serve others if `reusable`."""
        connection, self.connection = self.connection, None
        assert connection is not None
        assert connection.home is not None
        assert self.lease is not None
        if reusable:
            connection.home.release(connection)
        else:
            connection.abort()
        self.lease.release()

    def end(self) -> None:
        """Nothing more will be tried. Owner and attempts refer to each other, which only the garbage collector would
        find out, and late."""
        del self._owner

    def drop(self) -> None:
        """Nobody wants the answer any more: the engine is told, the lease given back, and nobody blamed."""
        self._drop_connection(is_dead=False)
        if self.lease is not None:
            self.lease.release()

    def _connect(self, lease: Lease, *, fresh: bool) -> None:
        self.count += 1
        connection = None if fresh else lease.backend.take(lease.engine.port)
        if connection is not None:
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

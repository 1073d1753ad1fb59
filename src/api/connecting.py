"""The connection of one attempt: taken or opened, written to, and dropped so that the engine knows."""

import asyncio
import logging

from vastproxy.api.client import Client
from vastproxy.api.errors import ApiError
from vastproxy.api.guest import Guest
from vastproxy.api.http.request import Request
from vastproxy.api.owner import Owner
from vastproxy.api.stripping import StrippedClient
from vastproxy.api.tools import ProxyTools
from vastproxy.api.upload import Upload
from vastproxy.services.dispatch.claim import Claim, Lease
from vastproxy.services.errors import BackendConnectError, BackendError
from vastproxy.services.upstream.connection import UpstreamConnection
from vastproxy.services.upstream.response import ResponseHead

logger = logging.getLogger(__name__)


class Connecting(Claim):
    """One request on the engines' side, as far as connections are concerned. At most one is open."""

    __deletable__ = ("_client", "_owner", "_upload")  # for mypyc: see setup.py
    __slots__ = (
        "_client",
        "_opening",
        "_owner",
        "_relayed_last",
        "_request",
        "_tools",
        "_upload",
        "connection",
        "guest",
        "relayed_end",
        "stripped",
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
        self.relayed_end = b""  # the last pieces of the answer that went past the owner
        self.connection: UpstreamConnection | None = None
        """The connection on which the request was sent, until it is answered or dropped."""
        self.stripped: StrippedClient | None = None
        """The client without the usage of the stream, if this attempt asks for that and the client does not."""
        self.guest: Guest | None = None
        """Who asks, if the key has limits."""

    def lines(self) -> bytes:
        """What the client is told about its request, on answers and on errors alike, as header lines."""
        if (lease := self.lease) is None:
            return b"x-request-id: %b\r\n" % self.request_id
        lines = b"x-request-id: %b\r\nx-vastproxy-instance: %d\r\n" % (self.request_id, lease.backend.id)
        return lines if self.guest is None else lines + self.guest.lines(self._tools.now())

    def refusal(self) -> ApiError | None:
        """Why who asks may not have the model that he names."""
        return None if self.guest is None else self.guest.refusal(self.named_model)

    def connect_failed(self, error: BackendError) -> None:
        """No connection could be opened."""
        raise NotImplementedError

    def relay(self) -> None:
        """The answer has begun: let whole events go straight to the client, as fast as it reads."""
        connection, client, lease = self.connection, self._client, self.lease
        if connection is not None and lease is not None:
            if (chunks := client.chunks) is not None:
                connection.relay_to(chunks, lease.engine)
            if client.write_paused:
                connection.pause_reading()

    def strip(self, head: ResponseHead) -> Client:
        """The client for an answer to a request that asks for usage: without it where it can be taken out, a stream of
        events as it is."""
        lines = head.lines
        if head.length is None and b"text/event-stream" in lines and b"content-encoding" not in lines:
            assert self.stripped is not None
            self._client = self.stripped
        else:
            self.stripped = None
        return self._client

    def tail(self, told: bytes) -> bytes:
        """How the answer ends that broke off. `told`: what of it the owner was told last."""
        return b"\n\n" if self._relayed_last else told

    def _count_relayed(self, connection: UpstreamConnection) -> None:
        """Of the present answer, what went past the owner."""
        self.sent_bytes += connection.relayed_bytes
        self.pieces += connection.relayed_pieces
        self.relayed_end = connection.earlier + connection.latest

    def connect(self, lease: Lease, *, fresh: bool) -> None:
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
            self.connect_failed(error)
            return
        self._opening = None
        lease.connected_at = self._tools.now()
        self._send(lease, connection)

    def _send(self, lease: Lease, connection: UpstreamConnection) -> None:
        self.connection = connection
        request, upload, limits = self._request, self._upload, self._tools.limits
        traced = self._tools.traced
        data = self._tools.compose(
            request,
            upload,
            lease.engine,
            self._client,
            self.request_id,
            expect=request.expects_continue and not upload.total_bytes,
            model=lease.wire_name(self.model) if lease.need.renames else None,
            traced=b"" if traced is None else traced(self, lease, request.headers),
            streams=self.stream is True,
        )
        self.stripped = StrippedClient(self._client) if upload.asks_usage else None
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

    def drop_connection(self, *, is_dead: bool) -> None:
        """End what leads to the engine. It is told before its stream is closed, if it is one that must be; `is_dead`:
        it knows, or cannot be told."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        connection, self.connection = self.connection, None
        if connection is None:
            return
        self._count_relayed(connection)
        self._relayed_last = connection.relayed_last
        rid = self._upload.rid
        if rid is None or self.lease is None or is_dead:
            connection.abort()
        else:
            connection.forget()
            self._tools.abort(self.lease, rid, connection.abort)

"""One request on its way through the proxy, driven by calls from both its sides.

1. refuse what is not proxied (engine paths that leak or change state, a body announced too large);
2. gather the body, for a moment, so that what is small leaves in one piece, or until the model is known that it asks
   for (`wishes.py`);
3. lease a place at an engine, or wait for one; write head and body to a connection of its (`attempts.py`); the rest of
   a long body follows as it comes;
4. pass the answer's head on, then each piece in the call in which it arrived. Who reads slowly pauses his engine.

When the client leaves, the engine is told at once, the lease is given back, and nothing counts as a failure.
"""

import asyncio

from vastproxy.api import stages
from vastproxy.api.attempts import Attempts
from vastproxy.api.client import Client
from vastproxy.api.errors import ApiError, from_exception, last_event, too_large
from vastproxy.api.gathering import Gathering
from vastproxy.api.guest import Guest
from vastproxy.api.http.request import Request
from vastproxy.api.tools import ProxyTools
from vastproxy.api.upload import REPLAY_LIMIT_BYTES, Upload
from vastproxy.api.wishes import HeadWish
from vastproxy.services.errors import BackendError, ServiceError
from vastproxy.services.http1.headers import returned_trailers
from vastproxy.services.upstream.response import ResponseHead

#: Status in the log of a request whose client left. Nobody is sent it (nginx's number).
LEFT = 499


class Exchange:
    """A `Handler` for the client and the `Owner` of the attempts. One method of it runs at a time, none waits."""

    __slots__ = (
        "_attempts",
        "_before",
        "_client",
        "_continued",
        "_gathering",
        "_head",
        "_last",
        "_request",
        "_stage",
        "_tools",
        "_total_timer",
        "_upload",
        "_wish",
        "refusal",
    )

    def __init__(self, tools: ProxyTools, request: Request, client: Client, request_id: bytes) -> None:
        self._tools = tools
        self._request = request
        self._client = client
        self._stage = stages.GATHER
        self._upload = Upload(request.framing.length)
        self._attempts = Attempts(tools, self, request, self._upload, client, request_id)
        self._wish: HeadWish | None = None
        self._gathering: Gathering | None = None
        self._total_timer: asyncio.TimerHandle | None = None
        self._continued = False
        self._head: ResponseHead | None = None
        self._last = self._before = b""
        self.refusal: ApiError | None = None
        """Set before `begin`: why it is not served, whatever it asks for."""

    def admit(self, guest: Guest) -> None:
        """Before `begin`: who asks, whose key has limits."""
        self._attempts.guest = guest

    # ── the client's side (Handler) ────────────────────────────────────────────────────────────

    def begin(self, data: bytes, *, complete: bool) -> None:
        """See `Handler.begin`."""
        tools, attempts, upload = self._tools, self._attempts, self._upload
        tools.traces.keep(attempts, is_stranger=self.refusal is not None)
        if refusal := self.refusal or tools.refusal(self._request, attempts.guest):
            self._refuse(refusal)
            return
        self._wish = wish = tools.wishes.read_head(attempts, self._request)
        upload.add(data, complete=complete, on_its_way=False)
        if upload.total_bytes > tools.max_body_bytes:
            self._refuse(too_large(tools.max_body_bytes))
        elif complete:
            self._ask()
        else:
            self._gathering = Gathering(
                tools, self._request, wish, upload, self._client, self._ask, attempts.guest
            )
            self._gathering.feed(data)

    def _ask(self) -> None:
        """Enough is known of the request to ask for a place."""
        attempts, upload, wish, gathering = self._attempts, self._upload, self._wish, self._gathering
        assert wish is not None
        if gathering is not None:
            self._continued = gathering.continued
            gathering.end()
        if upload.complete and upload.total_bytes:
            self._tools.wishes.read_body(attempts, wish, upload.gathered())
        elif gathering is not None:
            gathering.read(attempts)
        if (refusal := attempts.refusal()) is not None:
            self._refuse(refusal)
            return
        if (limit_s := self._tools.limits.total_timeout_s) is not None:
            self._total_timer = self._tools.call_later(limit_s, self._on_total_timeout)
        attempts.dispatch()

    def client_data(self, data: bytes, *, complete: bool) -> None:
        """See `Handler.client_data`."""
        stage = self._stage
        if stage is stages.PIPE:
            self._pipe_up(data, complete=complete)
            return
        if stage is stages.OVER:
            return
        upload = self._upload
        upload.add(data, complete=complete, on_its_way=stage is stages.WAIT or stage is stages.RELAY)
        if upload.total_bytes > self._tools.max_body_bytes:
            self.client_failed(too_large(self._tools.max_body_bytes))
        elif stage is stages.GATHER:
            if complete or self._gathering is None:
                self._ask()
            else:
                self._gathering.feed(data)
        elif stage is stages.CONNECT or stage is stages.QUEUE:
            if upload.total_bytes >= REPLAY_LIMIT_BYTES and not complete:
                self._client.pause_reading()
        elif self._attempts.connection is not None:
            self._attempts.connection.write(upload.more(data))
            if not complete:
                self.engine_writable()

    def client_writable(self) -> None:
        """See `Handler.client_writable`."""
        if (connection := self._attempts.connection) is not None:
            connection.resume_reading()

    def client_left(self) -> None:
        """See `Handler.client_left`."""
        if self._stage is not stages.OVER:
            self._attempts.status = self._attempts.status if self._stage is stages.PIPE else LEFT
            self._attempts.drop()
            self._over()

    def client_failed(self, error: ApiError) -> None:
        """See `Handler.client_failed`."""
        if self._stage is stages.OVER:
            return
        self._attempts.drop()
        if self._is_answered:
            self._client.break_off()
            self._attempts.error_code = error.code
            self._over()
        else:
            self._refuse(error)

    def _pipe_up(self, data: bytes, *, complete: bool) -> None:
        if (connection := self._attempts.connection) is None:
            return
        self._upload.total_bytes += len(data)
        if data:
            connection.write(data)
        if complete:
            connection.write_eof()
        else:
            self.engine_writable()

    # ── the attempts (Owner) ───────────────────────────────────────────────────────────────────

    def attempt_waits(self) -> None:
        """See `Owner.attempt_waits`."""
        self._stage = stages.NEXT[self._stage, stages.HOLD]

    def attempt_begun(self) -> None:
        """See `Owner.attempt_begun`."""
        self._stage = stages.NEXT[self._stage, stages.DISPATCH]

    def attempt_sent(self) -> None:
        """See `Owner.attempt_sent`."""
        self._stage = stages.NEXT[self._stage, stages.CONNECTED]

    def given_up(self, error: ServiceError) -> None:
        """See `Owner.given_up`. After the first byte of an answer it cannot become a status any more."""
        answer = from_exception(error, to_limited=self._attempts.is_limited)
        if not self._is_answered:
            self._refuse(answer)
            return
        self._tools.log_broken(self._attempts, error)
        headers = self._head.headers if self._head is not None else ()
        self._client.break_off(last_event(answer, headers, self._attempts.tail(self._last)))
        self._attempts.error_code = answer.code
        self._over()

    def _on_total_timeout(self) -> None:
        error = self._tools.took_too_long()
        self._attempts.drop(str(error))
        self.given_up(error)

    # ── the engine's side (Sink) ───────────────────────────────────────────────────────────────

    def engine_interim(self, status: int, lines: bytes) -> None:
        """See `Sink.engine_interim`. A 100 is for who asked for it, and once is enough."""
        if status == 100:
            if self._continued or not self._request.expects_continue:
                return
            self._continued = True
        self._client.interim(status, lines)

    def engine_answered(self, head: ResponseHead, data: bytes, done: bool) -> None:
        """See `Sink.engine_answered`."""
        attempts = self._attempts
        assert attempts.lease is not None
        if not attempts.answered(head):
            return
        self._stage = stages.NEXT[self._stage, stages.ANSWERED]
        attempts.status = head.status
        attempts.first_byte_at = attempts.lease.first_byte_at = self._tools.now()
        self._upload.release()
        attempts.lease.engine.has_answered |= head.status < 500
        self._head = head
        if attempts.stripped is not None:
            self._client = attempts.strip(head)
        attempts.sent_bytes, attempts.pieces, self._last = len(data), 1, data
        lines = head.lines + attempts.lines()
        self._client.respond(
            head.status, lines, length=head.length, has_body=head.has_body, data=data, last=done
        )
        if done:
            self._done()
        else:
            attempts.relay()

    def engine_data(self, data: bytes, done: bool) -> None:
        """See `Sink.engine_data`."""
        client, attempts = self._client, self._attempts
        connection, lease = attempts.connection, attempts.lease
        if connection is None or lease is None:
            return
        lease.engine.has_answered |= attempts.status < 500
        attempts.sent_bytes += len(data)
        attempts.pieces += 1
        self._before, self._last = self._last, data
        if not done:
            client.send(data)
            if client.write_paused:
                connection.pause_reading()
            return
        client.finish(data, returned_trailers(connection.trailers))
        self._done()

    def engine_switched(self, head: ResponseHead, data: bytes) -> None:
        """See `Sink.engine_switched`."""
        self._stage = stages.NEXT[self._stage, stages.SWITCHED]
        self._attempts.answered(head)
        self._attempts.status, self._attempts.first_byte_at = head.status, self._tools.now()
        self._client.switch(head.lines + self._attempts.lines())
        if data:
            self.engine_data(data, False)

    def engine_failed(self, error: BackendError) -> None:
        """See `Sink.engine_failed`."""
        self._attempts.failed(error, answered=self._is_answered)

    def engine_writable(self) -> None:
        """See `Sink.engine_writable`."""
        connection = self._attempts.connection
        if connection is not None and connection.write_paused:
            self._client.pause_reading()
        else:
            self._client.resume_reading()

    @property
    def _is_answered(self) -> bool:
        return self._stage is stages.RELAY or self._stage is stages.PIPE

    def _done(self) -> None:
        """All has been passed on. An engine that answered early may still wait for the rest of the request."""
        self._attempts.finish(self._head, reusable=self._upload.sent and self._stage is not stages.PIPE)
        self._over()

    def _refuse(self, error: ApiError) -> None:
        """An answer of our own."""
        self._attempts.status, self._attempts.error_code = error.status, error.code
        self._attempts.sent_bytes = self._tools.refuse(
            self._client, error, self._attempts.lines(), has_body=self._request.method != b"HEAD"
        )
        self._over()

    def _over(self) -> None:
        self._stage = stages.NEXT[self._stage, stages.END]
        if self._gathering is not None:
            self._gathering.end()
            self._gathering = None  # it refers to us
        if self._total_timer is not None:
            self._total_timer.cancel()
        self._attempts.end(self._head, self._last, self._before)

"""The attempts to have one request answered: a lease, a connection, what was tried, and whether to try again."""

from vastproxy.api.connecting import Connecting
from vastproxy.services.dispatch.claim import Lease
from vastproxy.services.errors import (
    BackendError,
    NoStreamLeft,
    ResponseInterrupted,
    ServiceError,
    TokenNotAccepted,
)
from vastproxy.services.routing.retry import Retry, costs, decide, decide_answer, is_repeatable, retry_after_s
from vastproxy.services.routing.speed import MIN_SECONDS
from vastproxy.services.upstream.response import ResponseHead

_NOT_BEGUN = frozenset({401, 429, 503})


class Attempts(Connecting):
    """One request on the engines' side. At most one attempt is under way."""

    __slots__ = ()

    @property
    def is_limited(self) -> bool:
        """Does somebody ask who may not use all models?"""
        return self.guest is not None and self.guest.needs_model

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
            self.connect(lease, fresh=False)

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
        self.connect(lease, fresh=False)

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
        self.drop_connection(is_dead=True)
        if verdict is Retry.ELSEWHERE:
            self.tried = {*self.tried, self.lease.engine.key}
            self._dispatch_elsewhere(costly=True)
        else:
            self._owner.given_up(error)
        return True

    def connect_failed(self, error: BackendError) -> None:
        """See `Connecting.connect_failed`."""
        self.failed(error, answered=False)

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
        self.drop_connection(is_dead=gone)
        if verdict is Retry.SAME_BACKEND:
            self._owner.attempt_begun()
            self.lease = lease = lease.again(self._tools.now())
            self.leases.append(lease)
            self.connect(lease, fresh=True)
            return
        if not isinstance(error, NoStreamLeft):
            dispatcher.failed(self, error, reached=answered)
        if verdict is Retry.ELSEWHERE:
            self._dispatch_elsewhere(costly=costs(verdict, error))
        else:
            self._owner.given_up(error)

    def finish(self, head: ResponseHead | None, *, reusable: bool) -> None:
        """The answer has come whole; `end` follows. `head`: of one that says how fast its engine is. The connection
        may serve others if `reusable`."""
        connection, self.connection = self.connection, None
        lease = self.lease
        assert connection is not None
        assert connection.home is not None
        self._count_relayed(connection)
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

    def end(self, head: ResponseHead | None, last: bytes, before: bytes) -> None:
        """Nothing more will be tried: the request is logged and counted, its place given back. What is left is kept for
        a while, as the story. `last`, `before`: the last pieces of the answer that the owner has seen."""
        tools = self._tools
        tools.dispatcher.finish(self)
        received_bytes, peer = self._upload.total_bytes, self._client.peer
        before += self.relayed_end
        if self.stripped is not None:
            self.sent_bytes -= self.stripped.strip.dropped
            if self.stripped.strip.taken:
                last, before = b"", self.stripped.strip.taken
        tokens = 0
        try:
            tokens = tools.ended(self, self._request, received_bytes, peer, head, last, before)
        finally:
            if self.guest is not None:
                self.guest.leave(tools.now(), tokens)
            # The owner refers to us, too: no cycle shall be left. Nor shall what the client sent, which may be long and
            # holds its key.
            del self._owner, self._client, self._upload, self._request

    def cancel(self, error: ServiceError) -> None:
        """Somebody has ordered that it ends, wherever it stands: the engine is told, the client is told `error`, and
        nobody is blamed. Not for one that is over."""
        if self.lease is not None:
            self.lease.end("cancelled", self._tools.now(), str(error))
        self.drop()
        self._owner.given_up(error)

    def drop(self, why: str = "") -> None:
        """Nobody wants the answer any more: the engine is told, and nobody blamed. `end` follows. `why`: if it is not
        the client's doing, one line for a person."""
        if self.lease is not None:
            self.lease.end("failed" if why else "left", self._tools.now(), why)
        self.drop_connection(is_dead=False)

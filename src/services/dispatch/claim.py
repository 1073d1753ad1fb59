"""A request's claim to be served, and the leases by which it holds places at engines, one after the other.

Both are kept for a while when they are over, as the request's story: see `services.traces`. So they hold nothing that
is secret, and nothing that is large.
"""

from collections.abc import Collection, Hashable

from mypy_extensions import mypyc_attr

from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.engine import Engine
from vastproxy.services.dispatch.need import ANY_MODEL, Need
from vastproxy.services.errors import ServiceError
from vastproxy.services.routing.policy import NO_HINT, Choice, Hint
from vastproxy.services.routing.ticket import Priority, Ticket

#: Stands for a time at which something has not happened.
NEVER = -1.0
#: Characters kept of what others chose.
MAX_CHARS = 300
#: Attempts of one request whose story is kept: the first ones, and the last.
MAX_ATTEMPTS = 16
NOBODY: frozenset[int] = frozenset()


class Lease:
    """A place at one engine, counted from before the request is sent until the dispatcher is given it back; and what
    came of the attempt that was made there. Times are the dispatcher's clock's."""

    __slots__ = (
        "among",
        "at",
        "backend",
        "choice",
        "connected_at",
        "ended_at",
        "engine",
        "error",
        "first_byte_at",
        "heard",
        "need",
        "outcome",
        "path",
        "released",
        "reused",
    )

    def __init__(
        self, backend: Backend, engine: Engine, need: Need, choice: Choice, at: float, among: int
    ) -> None:
        self.backend = backend
        self.engine = engine
        self.need = need
        """Among whose members it was chosen."""
        self.choice = choice
        self.at = at
        self.among = among
        """Requests that the engine had in flight then, this one included."""
        self.heard = False
        """Is it known how the engine has taken the request, for better or worse?"""
        self.released = False
        self.path = backend.path
        """`direct` or `relay`, when it was begun."""
        self.reused = False
        """Had its connection served before?"""
        self.connected_at = self.first_byte_at = self.ended_at = NEVER
        self.outcome = ""
        """One word: `answered`, `failed`, `left` (the client), `refused`, `cancelled`; "" while it runs."""
        self.error = ""

    def again(self, at: float) -> "Lease":
        """Another attempt at the same place, which counts once."""
        lease = Lease(self.backend, self.engine, self.need, self.choice, at, self.among)
        lease.heard, lease.released, self.released = self.heard, self.released, True
        return lease

    def end(self, outcome: str, at: float, error: str = "") -> None:
        """The attempt is over; that it was over before counts more. `error`: one line for a person."""
        if not self.outcome:
            self.outcome, self.ended_at, self.error = outcome, at, error[:MAX_CHARS]

    def wire_name(self, model: str | None) -> str | None:
        """What the engine calls the `model` that was asked for; None if that needs no change."""
        if model == ANY_MODEL:
            return None
        name = self.need.wire_names.get(self.engine.key)
        return None if name == model else name


@mypyc_attr(allow_interpreted_subclasses=True)
class Claim:
    """One request, from its beginning to its end. Whoever makes it sets what it asks for before it asks, and what
    becomes of it.

    `lease` to `tried` belong to the dispatcher.
    """

    __slots__ = (
        "asked_at",
        "asker",
        "began_at",
        "budgeted",
        "ended_at",
        "error_code",
        "first_byte_at",
        "hint",
        "lease",
        "leases",
        "left_out",
        "method",
        "model",
        "need",
        "number",
        "pieces",
        "priority",
        "queued_s",
        "received_bytes",
        "request_id",
        "sent_bytes",
        "status",
        "stream",
        "target",
        "ticket",
        "tried",
    )

    def __init__(
        self, began_at: float = 0.0, request_id: bytes = b"", method: bytes = b"", target: bytes = b""
    ) -> None:
        self.began_at = began_at
        self.request_id = request_id
        self.method = method
        self.target = target if len(target) <= MAX_CHARS else target[:MAX_CHARS]
        """Its beginning, the query included, which is not for showing."""
        self.model: str | None = ANY_MODEL
        """As the client wrote it; None if it named none where one belongs."""
        self.stream: bool | None = None
        self.hint: Hint = NO_HINT
        self.asker: Hashable = None
        """Whose request it is, so that askers take turns; None where nobody is told apart."""
        self.priority = Priority.INTERACTIVE
        self.first_byte_at = self.ended_at = NEVER
        self.status = 0
        """What the client was answered; 499: it left. 0 while nothing is."""
        self.error_code: str | None = None
        """The code of an error of ours that it was answered with, or that broke its answer off."""
        self.pieces = 0
        """In how many reads the body of the answer came."""
        self.received_bytes = self.sent_bytes = 0
        self.lease: Lease | None = None
        """The place that it holds now, or has held last."""
        self.leases: list[Lease] = []
        """All of them, the first ones and the last."""
        self.left_out = 0
        """How many in the middle are not kept."""
        self.need: Need | None = None
        self.number = 0
        """0 until it is counted as in flight."""
        self.ticket: Ticket[Claim] | None = None
        """What it waits with, or has waited with."""
        self.budgeted = False
        """Does it hold one of the retry budget?"""
        self.asked_at = began_at
        self.queued_s = 0.0
        """How long it has waited for places."""
        self.tried: Collection[int] = NOBODY
        """Keys of the engines that have failed it."""

    def leave_out(self) -> None:
        """Forget one in the middle of its leases: there are too many."""
        del self.leases[MAX_ATTEMPTS // 2]
        self.left_out += 1

    @property
    def attempts(self) -> int:
        """How many there were."""
        return len(self.leases) + self.left_out

    @property
    def named_model(self) -> str | None:
        """The model that the client named, if it did."""
        return None if self.model == ANY_MODEL else self.model

    def granted(self, lease: Lease) -> None:
        """It has waited, and here is its place."""
        raise NotImplementedError

    def refused(self, error: ServiceError) -> None:
        """It has waited, and that was that. It is over."""
        raise NotImplementedError

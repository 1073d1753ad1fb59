"""A request's claim to be served, and the lease by which it holds a place at an engine."""

from collections.abc import Hashable, Sequence

from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.engine import Engine
from vastproxy.services.dispatch.need import ANY_MODEL, Need
from vastproxy.services.errors import ServiceError
from vastproxy.services.routing.policy import NO_HINT, Choice, Hint
from vastproxy.services.routing.ticket import Priority, Ticket


class Lease:
    """A place at one engine, counted from before the request is sent until the dispatcher is given it back."""

    __slots__ = ("among", "at", "backend", "choice", "engine", "heard", "need", "released", "scores")

    def __init__(
        self,
        backend: Backend,
        engine: Engine,
        need: Need,
        choice: Choice,
        at: float,
        scores: Sequence[tuple[int, float]] = (),
    ) -> None:
        self.backend = backend
        self.engine = engine
        self.need = need
        """Among whose members it was chosen."""
        self.choice = choice
        self.at = at
        """Clock time."""
        self.scores = scores
        """Keys and scores of those that it was compared with, itself included."""
        self.heard = False
        """Is it known how the engine has taken the request, for better or worse?"""
        self.released = False
        backend.in_flight += 1
        backend.requests += 1
        engine.requests += 1
        self.among = engine.in_flight = engine.in_flight + 1
        """Requests that it had in flight then, this one included."""

    def wire_name(self, model: str | None) -> str | None:
        """What the engine calls the `model` that was asked for; None if that needs no change."""
        if model == ANY_MODEL:
            return None
        name = self.need.wire_names.get(self.engine.key)
        return None if name == model else name


class Claim:
    """One request, from asking to its end. Whoever makes it sets what it asks for before it asks, and is told.

    The rest belongs to the dispatcher.
    """

    __slots__ = (
        "asked_at",
        "asker",
        "budgeted",
        "hint",
        "lease",
        "model",
        "need",
        "number",
        "priority",
        "queued_s",
        "ticket",
        "tried",
    )

    def __init__(self) -> None:
        self.model: str | None = ANY_MODEL
        """As the client wrote it; None if it named none where one belongs."""
        self.hint: Hint = NO_HINT
        self.asker: Hashable = None
        """Whose request it is, so that askers take turns; None where nobody is told apart."""
        self.priority = Priority.INTERACTIVE
        self.need: Need | None = None
        self.lease: Lease | None = None
        """The place that it holds now, or has held last."""
        self.number = 0
        """0 until it is counted as in flight."""
        self.ticket: Ticket[Claim] | None = None
        """What it waits with, or has waited with."""
        self.tried: set[int] = set()
        """Keys of the engines that have failed it."""
        self.budgeted = False
        """Does it hold one of the retry budget?"""
        self.asked_at = 0.0
        self.queued_s = 0.0
        """How long it has waited for places."""

    def granted(self, lease: Lease) -> None:
        """It has waited, and here is its place."""
        raise NotImplementedError

    def refused(self, error: ServiceError) -> None:
        """It has waited, and that was that. It is over."""
        raise NotImplementedError

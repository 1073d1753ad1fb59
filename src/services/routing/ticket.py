"""A request's claim to be served, from the moment it asks until it is over; and what it is told when it may not wait.

    ask ──> WAITING ──> GRANTED ──> OVER
               ^           │
               └── again ──┘        WAITING ──> OVER (the client left, or the wait was over)

429 and 503 differ in whose doing it is: 429 says that this API key is over a limit of its own and 503 that nobody can
serve now, whoever asks.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import Generic, TypeVar

T = TypeVar("T")


class Priority(IntEnum):
    """The class of a request. A lower number goes first."""

    INTERACTIVE = 0
    """Somebody watches the answer come."""
    BATCH = 1
    """Nobody does: it takes what interactive requests leave, and a small share when they leave nothing."""


_BY_NAME = {b"interactive": Priority.INTERACTIVE, b"batch": Priority.BATCH}


def priority_of(header: bytes | None, by_key: Priority = Priority.INTERACTIVE) -> Priority:
    """The class of a request with this `X-VastProxy-Priority` (None: it has none), whose key is of class `by_key`.

    A request may place itself behind what its key is entitled to, never before it. A name that is no class counts as
    none: a priority is a wish, and no reason to refuse an answer.
    """
    wish = _BY_NAME.get(header.strip().lower(), by_key) if header is not None else by_key
    return max(wish, by_key)


class Stage(Enum):
    WAITING = auto()
    GRANTED = auto()
    """It counts as in flight."""
    OVER = auto()


#: The stages by their names alone: in CPython 3.11 looking one up in its class costs five times as much.
WAITING, GRANTED, OVER = Stage


class Ticket(Generic[T]):
    """One request's place. Made by the queue; whoever holds it reads it, and hands it back when the request is over."""

    __slots__ = ("deadline", "entered_at", "key", "need", "number", "owner", "priority", "stage")

    def __init__(
        self,
        number: int,
        need: Hashable,
        key: Hashable,
        priority: Priority,
        owner: T,
        now: float,
        deadline: float,
    ) -> None:
        self.number = number
        """Requests are numbered as they come."""
        self.need = need
        """What serves it: a model's name, None for any. Requests with the same need wait for the same candidates."""
        self.key = key
        """Whose request it is; None where nobody is told apart. Never shown: it may be an API key."""
        self.priority = priority
        self.owner = owner
        """Whatever the caller wants to find again when the request's turn has come."""
        self.entered_at = now
        self.deadline = deadline
        """When its wait is over."""
        self.stage = WAITING

    def __repr__(self) -> str:
        return f"<Ticket {self.number} {self.stage.name} {self.priority.name} need={self.need!r}>"


class Reason(Enum):
    """Why a request is not served, with its HTTP status."""

    KEY_WAITING = (429, "this API key has too many requests waiting")
    KEY_IN_FLIGHT = (429, "this API key has as many requests in flight as it may")
    QUEUE_FULL = (503, "every backend is busy, and no more requests may wait")
    WAITED = (503, "no backend became free in time")

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request is not served."""

    reason: Reason
    retry_after_s: int
    """Whole seconds, at least 1: when what waits now will have been served, as far as can be told."""

    @property
    def status(self) -> int:
        return self.reason.status

    @property
    def message(self) -> str:
        """One line for a person."""
        return f"{self.reason.text}; try again in {self.retry_after_s} s"


@dataclass(frozen=True, slots=True)
class ClassLimits:
    """How many requests of one class may wait, and how long."""

    max_waiting: int
    """0: none waits; what finds no free place is refused at once."""
    max_waiting_per_key: int
    max_wait_s: float

    def __post_init__(self) -> None:
        if self.max_waiting < 0 or self.max_waiting_per_key < 0 or not self.max_wait_s > 0:
            raise ValueError(f"limits of 0 or more and a wait above 0 are needed, not {self}")

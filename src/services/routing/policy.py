"""The interface of a policy: who, of those that may serve a request now, is to serve it.

A policy has members: the candidates of one model. The caller offers a candidate when it may serve (it is healthy and
has the model) and withdraws it when it may not. One that is full or that a request has been to already is passed over
without that, and does not lose what it is known for.

    policy.offer(candidate)
    choice = policy.choose(hint, now, exclude=tried)     # None: nobody has a place
    policy.assigned(choice.candidate.key, hint, now)     # with its in_flight counted up
    …
    policy.finished(choice.candidate.key, now)           # with its in_flight counted down
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from msgspec import Struct

from vastproxy.services.routing.candidate import Candidate


class Hint(NamedTuple):
    """What is known of a request that may decide where it goes. It holds no text: see `hints`."""

    prefix: tuple[int, ...] = ()
    """Chained hashes of the first blocks of the prompt: each covers all blocks up to its own."""
    session: int | None = None
    """Hash of the session's key, when the client sends one."""
    pin: int | None = None
    """The instance that the client asks for."""


#: A request of which nothing is known.
NO_HINT = Hint()


class Choice(Struct, gc=False):  # half the price of a tuple with names
    """Who serves, and why."""

    candidate: Candidate
    why: str
    """One or two words for people, such as `prefix` or `least loaded`."""
    scores: Sequence[tuple[int, float]] = ()
    """Keys and scores of those that were compared, itself included; the lowest is the best."""
    among: int = 0
    """How many might have been chosen, as far as they were looked at."""


@dataclass(frozen=True, slots=True)
class Score:
    """How a policy sees one of its members; the lowest score is the best."""

    key: int
    score: float
    why: str
    """`full` or `excluded` for one that cannot be chosen, else what speaks for or against it."""


class Policy(Protocol):
    """One way to choose. Time comes as an argument and chance from the `random.Random` given at the beginning: with
    the same calls the same choices. Candidates are looked at anew each time."""

    def offer(self, candidate: Candidate) -> None:
        """From now on it may be chosen. Offering it again puts the new object in the place of the one before."""
        ...

    def withdraw(self, key: int) -> None:
        """From now on it may not. What is remembered of it is kept in case it comes back, except where another one has
        taken its place meanwhile."""
        ...

    def choose(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> Choice | None:
        """One of the members that has a place and whose key is not in `exclude`; None if there is none."""
        ...

    def assigned(self, key: int, hint: Hint, now: float) -> None:
        """The request has gone to `key`, whoever has decided that."""
        ...

    def finished(self, key: int, now: float) -> None:
        """`key` has one request less."""
        ...

    def scores(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> list[Score]:
        """Every member, in the order of keys, as `choose` would see it now. Costs a look at each; changes nothing."""
        ...

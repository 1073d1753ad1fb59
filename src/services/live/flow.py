"""Tokens of answers as they come, not only when an answer has ended and its engine tells how many there were.

A long answer would else count as nothing for a minute, and then as everything in one second; and one whose engine tells
nothing would never count. So each piece of a stream stands for a token until the number is told, and for good where it
is not: engines send one event for each token, except when they are in a hurry, so it is rather too few than too many.
"""

from collections.abc import Callable, Iterable

from vastproxy.services.dispatch.claim import NEVER, Claim


class Flow:
    """Counts by instance. They grow, but for the moment in which a stream ends whose pieces were more than its
    tokens."""

    __slots__ = ("_running", "_tokens_of", "_told", "_untold", "_untold_before")

    def __init__(self, tokens_of: Callable[[int], int]) -> None:
        """`tokens_of`: tokens that engines have told of, of all answers of an instance that have ended."""
        self._tokens_of = tokens_of
        self._running: dict[int, int] = {}
        """Pieces of streams that run."""
        self._untold: dict[int, int] = {}
        """Pieces of streams that have ended and of which no number was told."""
        self._told: dict[int, int] = {}
        """What was told when streams of the instance were last seen to end."""
        self._untold_before = 0
        """Of instances that are gone."""

    def ended(self, claims: Iterable[Claim]) -> None:
        """These have ended. What has been told since the last time is held against their pieces."""
        pieces = _pieces(claims)
        for id, count in pieces.items():
            told = self._tokens_of(id)
            new = told - self._told.get(id, 0)
            if count > new:
                self._untold[id] = self._untold.get(id, 0) + count - max(new, 0)
            self._told[id] = told

    def look(self, claims: Iterable[Claim]) -> None:
        """These run, those among them that have ended aside."""
        self._running = _pieces(claim for claim in claims if claim.ended_at == NEVER)

    def of(self, instance_id: int) -> int:
        """Tokens that an instance has sent."""
        here = self._running.get(instance_id, 0) + self._untold.get(instance_id, 0)
        return self._tokens_of(instance_id) + here

    @property
    def untold(self) -> int:
        """Of all instances, what is in no count of what was told."""
        return sum(self._running.values()) + sum(self._untold.values()) + self._untold_before

    def forget(self, instance_id: int) -> None:
        """It is gone; what it has sent stays in `untold`."""
        self._untold_before += self._untold.pop(instance_id, 0)
        self._told.pop(instance_id, None)


def _pieces(claims: Iterable[Claim]) -> dict[int, int]:
    """By instance, of those who asked for a stream."""
    found: dict[int, int] = {}
    for claim in claims:
        if claim.stream and claim.pieces > 1 and claim.lease is not None:
            id = claim.lease.backend.id
            found[id] = found.get(id, 0) + claim.pieces
    return found

"""How many requests may be asked again at the same time, in the whole fleet. Pure.

When backends fail because there is too much to do, every request that is asked again is one more. A share of what is
in flight bounds that: with 20 % the fleet never sees more than 1.2 times the load. A small fleet has a few retries
all the same. Finagle, Linkerd and Envoy (`retry_budget`: 20 % and 3) do it so.
"""


class RetryBudget:
    """Counts the retries that are under way. Each `take` that was allowed is given back once."""

    __slots__ = ("_least", "_share", "refused", "taken")

    def __init__(self, *, share: float = 0.2, least: int = 3) -> None:
        """`share` of the requests in flight may be retries, and `least` however few those are."""
        if not 0 <= share <= 1 or least < 0:
            raise ValueError(f"a share from 0 to 1 and 0 or more retries are needed, not {share} and {least}")
        self._share = share
        self._least = least
        self.taken = 0
        """Retries under way."""
        self.refused = 0
        """Times that there was no more."""

    def __repr__(self) -> str:
        return f"<RetryBudget taken={self.taken} refused={self.refused}>"

    def allowed(self, in_flight: int) -> int:
        """Retries at the same time, while so many requests are in flight."""
        return max(self._least, int(self._share * in_flight))

    def take(self, in_flight: int) -> bool:
        """Begin a retry, if one is left. `in_flight` counts all requests, the retries among them."""
        if self.taken >= self.allowed(in_flight):
            self.refused += 1
            return False
        self.taken += 1
        return True

    def give_back(self) -> None:
        """A retry is over: it failed, its client left, or its answer has begun. From then on it is a request like
        others; a stream that goes on for minutes must not keep others from being tried again."""
        assert self.taken > 0, "more retries are given back than were taken"
        self.taken -= 1

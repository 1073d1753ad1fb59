"""Whether something that has failed is worth another try: not for a while, then one try, then not for twice as long.

Pure, and not safe for several threads at the same time.
"""


class Breaker:
    """Knows one peer. `now` is of any monotonic clock, in seconds.

    `pause_s` is how long the peer is left alone after the first failure; it doubles with each further one in a row up
    to `max_pause_s`. A trial that nobody reports on holds the others back for `trial_s`.
    """

    def __init__(self, *, pause_s: float, max_pause_s: float, trial_s: float) -> None:
        self._pause_s = pause_s
        self._max_pause_s = max_pause_s
        self._trial_s = trial_s
        self._failures = 0
        self._not_before = 0.0

    @property
    def is_closed(self) -> bool:
        """Is the peer trusted, so that nobody has to prove anything?"""
        return self._failures == 0

    def may_try(self, now: float) -> bool:
        """May the peer be asked? Of several who come at the end of a pause, one may."""
        if self.is_closed:
            return True
        if now < self._not_before:
            return False
        self._not_before = now + self._trial_s
        return True

    def worked(self) -> bool:
        """The peer did its work. Is that news?"""
        news, self._failures = not self.is_closed, 0
        return news

    def failed(self, now: float) -> bool:
        """The peer did not. Is that news?"""
        pause_s = min(self._pause_s * 2 ** min(self._failures, 32), self._max_pause_s)
        news, self._failures = self.is_closed, self._failures + 1
        self._not_before = now + pause_s
        return news

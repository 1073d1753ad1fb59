"""How long to wait before connecting again. Pure."""

import math
import random
from dataclasses import dataclass

#: Doublings after which every sensible limit is reached; keeps the power finite.
_MOST_DOUBLINGS = 64
#: Share by which a pause may exceed its nominal length, so that many proxies do not come back at once.
_SPREAD = 0.5


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double with each failure in a row, never below `min_s` and never above `max_s`.

    The lower bound holds with jitter too: since OpenSSH 9.8 sshd punishes addresses that come back
    within seconds of a failed login (PerSourcePenalties, sshd_config(5)).
    """

    min_s: float
    max_s: float

    def __post_init__(self) -> None:
        if not (0 <= self.min_s <= self.max_s and math.isfinite(self.max_s)):
            raise ValueError(f"0 <= min_s <= max_s is needed, not {self.min_s} and {self.max_s}")

    def next(self, failures: int, rng: random.Random) -> float:
        """Seconds to wait after so many failures in a row (the first failure is 1)."""
        doublings = min(max(failures - 1, 0), _MOST_DOUBLINGS)
        nominal_s = self.min_s * 2.0**doublings
        highest_s = min(nominal_s * (1 + _SPREAD), self.max_s)
        lowest_s = min(nominal_s, max(self.min_s, self.max_s / (1 + _SPREAD)))
        # uniform() may leave its bounds by a rounding error
        return min(max(rng.uniform(lowest_s, highest_s), self.min_s), self.max_s)

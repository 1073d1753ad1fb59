"""How far a machine can be relied on, from what was had with it: one number, 0 to 1. Pure.

    score = answered · steady
    answered = 1 / (1 + 10 · (errors + 1) / (requests + errors + 20))    half at one failure in ten
    steady   = 1 / (1 + drops a day / 4)                                 half at four lost ways a day
    drops a day = (drops + 0.25) / (days + 1)

The numbers beside errors, requests, drops and days are what is taken for granted of a machine that is hardly known, so
that one bad hour is no verdict. How fast it is has no part in it: that depends on the model, and routing measures the
speed of each engine by itself.
"""

from typing import Final

#: Less than this is too little to say anything.
MIN_HOURS: Final = 1.0
MIN_REQUESTS: Final = 20

_PER_ERROR: Final = 10.0
_USUAL_DROPS_A_DAY: Final = 4.0


def score(hours: float, requests: int, errors: int, drops: int) -> float | None:
    """None while too little is known. `hours`: that it was seen running, over all times it was rented; `errors`:
    attempts that failed and answers that say so; `drops`: ways to it that were lost."""
    if hours < MIN_HOURS or (requests + errors < MIN_REQUESTS and drops == 0):
        return None
    failing = (errors + 1) / (requests + errors + 20)
    a_day = (drops + 0.25) / (hours / 24 + 1)
    answered, steady = 1 / (1 + _PER_ERROR * failing), 1 / (1 + a_day / _USUAL_DROPS_A_DAY)
    # What is taken for granted is no fault: nobody would reach 1 else.
    perfect = 1 / (1 + _PER_ERROR / (requests + 20)) / (1 + 0.25 / (hours / 24 + 1) / _USUAL_DROPS_A_DAY)
    return round(min(answered * steady / perfect, 1.0), 3)

"""Whether and when to try a call again. Pure; the one who acts is `calls.Caller`."""

import random

from vastproxy.settings.model import RetrySettings
from vastproxy.vastai.errors import VastError, VastProtocolError

#: An answer that could not be read is asked for once more; then it is not an accident.
_PROTOCOL_RETRIES = 1


def next_pause_s(error: VastError, attempt: int, settings: RetrySettings, rng: random.Random) -> float | None:
    """The pause before the next try in seconds, or None to give up. `attempt` counts the tries made so far.

    Exponential backoff with full jitter, never shorter than what vast.ai asked for. When it asks for more
    than `settings.max_s`, waiting here is no use and the caller is told at once.
    """
    if not error.retryable or attempt >= settings.attempts:
        return None
    if isinstance(error, VastProtocolError) and attempt > _PROTOCOL_RETRIES:
        return None
    asked_s: float = getattr(error, "retry_after_s", None) or 0.0
    if asked_s > settings.max_s:
        return None
    ceiling_s = min(settings.max_s, settings.base_s * 2.0 ** (attempt - 1))
    return max(asked_s, rng.uniform(0.0, ceiling_s))

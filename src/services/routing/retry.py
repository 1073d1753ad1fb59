"""May a failed attempt be made again, and where? The answer follows from what the engine can have seen.

There are five cases:

1. No byte of the request reached the engine: the channel was refused, the tunnel was down. Anything may be
   sent again: to the same instance if only the way to it failed and it has another one, else elsewhere.
2. The request was written to a connection that had been idle, and the connection ended before any response
   byte. Engines close idle connections at 5 s; ours was a moment too late. The engine has, as far as HTTP
   lets one know, not begun. Once more, on a new connection, if we still have the bytes.
3. The SSH connection under it ended before any response byte. sshd ends what it had forwarded, engines stop when
   their client goes, and nobody will ever see that answer. What changes nothing but the bill – a question to a model,
   a read – is asked again.
4. The engine answered that it does not begin it: full or loading (429, 503), or our key is not the one that it
   wants (401). Another one may. See `decide_answer`.
5. Everything else: the engine may be working on it. A second copy would double the load of a machine that is
   already late, so the client gets an error and decides for itself.

A retry that gives engines something to do again takes one from the retry budget: case 3 elsewhere, and case 4. Where
nothing reached an engine the number of attempts is bound enough, and a lost connection to an instance that has another
one moves no load.
"""

from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum

from vastproxy.services.errors import (
    BackendConnectError,
    BackendError,
    NoStreamLeft,
    ResponseInterrupted,
    TunnelError,
)
from vastproxy.services.routing.paths import INFERENCE

#: Digits of a Retry-After that are read: more ask for years.
_MOST_DIGITS = 9
#: Answers by which an engine says that it has not begun.
_NOT_BEGUN = frozenset({401, 429, 503})
_READS = frozenset({b"GET", b"HEAD", b"OPTIONS"})


class Retry(Enum):
    NO = "no"
    ELSEWHERE = "elsewhere"
    SAME_BACKEND = "same backend, new connection"


def decide(
    error: Exception,
    *,
    reused: bool,
    replayable: bool,
    repeatable: bool,
    way_left: bool,
    response_started: bool,
    attempts_left: int,
    budget_left: bool = True,
) -> Retry:
    """`reused`: the connection had served before. `replayable`: every body byte sent so far is still held.
    `repeatable`: see `is_repeatable`. `way_left`: the backend can be reached over another SSH connection.
    `response_started`: the client has been sent something. `budget_left`: may engines be given more to do? Where the
    verdict depends on it, `costs` says so."""
    if response_started or attempts_left <= 0 or not replayable or isinstance(error, NoStreamLeft):
        return Retry.NO
    way_lost = isinstance(error, BackendError) and error.way_lost
    where = Retry.SAME_BACKEND if way_lost and way_left else Retry.ELSEWHERE
    if isinstance(error, BackendConnectError | TunnelError):
        return where
    if not isinstance(error, ResponseInterrupted) or error.received:
        return Retry.NO
    if way_lost:
        may = repeatable and (budget_left or where is Retry.SAME_BACKEND)
        return where if may else Retry.NO
    return Retry.SAME_BACKEND if reused else Retry.NO


def decide_answer(
    status: int,
    *,
    replayable: bool,
    repeatable: bool,
    others: bool,
    attempts_left: int,
    budget_left: bool,
) -> Retry:
    """An engine's answer has begun with this status, and nothing of it has been passed on: is another one asked?

    `others`: can another candidate take it now, or soon enough to wait for it? Otherwise the client gets the answer as
    it is, with the engine's Retry-After.
    """
    if status not in _NOT_BEGUN or not (replayable and repeatable and others):
        return Retry.NO
    return Retry.ELSEWHERE if attempts_left > 0 and budget_left else Retry.NO


def costs(verdict: Retry, error: Exception | None) -> bool:
    """Does a retry with this verdict take one from the budget? `error`: None where the engine had answered."""
    return verdict is Retry.ELSEWHERE and not isinstance(error, BackendConnectError | TunnelError)


def retry_after_s(value: bytes | None, wall_now: float) -> float | None:
    """The seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3: a number of seconds, or a date); None
    where there is none, or it cannot be read. `wall_now`: seconds since 1970."""
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        return float(text[:_MOST_DIGITS])
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)  # "-0000": some senders' way to write GMT
        return max(0.0, date.timestamp() - wall_now)
    except (ValueError, OverflowError):
        return None


def is_repeatable(method: bytes, path: bytes) -> bool:
    """Does it change nothing when an engine is asked this twice? `path` without query."""
    return method in _READS or path in INFERENCE

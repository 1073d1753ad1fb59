"""May a failed attempt be made again, and where? The answer follows from what the engine can have seen.

There are four cases:

1. No byte of the request reached the engine: the channel was refused, the tunnel was down. Anything may be
   sent again: to the same instance if only the way to it failed and it has another one, else elsewhere.
2. The request was written to a connection that had been idle, and the connection ended before any response
   byte. Engines close idle connections at 5 s; ours was a moment too late. The engine has, as far as HTTP
   lets one know, not begun. Once more, on a new connection, if we still have the bytes.
3. The SSH connection under it ended before any response byte. sshd ends what it had forwarded, engines stop when
   their client goes, and nobody will ever see that answer. What changes nothing but the bill – a question to a model,
   a read – is asked again.
4. Everything else: the engine may be working on it. A second copy would double the load of a machine that is
   already late, so the client gets an error and decides for itself.
"""

from enum import Enum

from vastproxy.services.errors import (
    BackendConnectError,
    BackendError,
    NoStreamLeft,
    ResponseInterrupted,
    TunnelError,
)
from vastproxy.services.routing.paths import INFERENCE

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
) -> Retry:
    """`reused`: the connection had served before. `replayable`: every body byte sent so far is still held.
    `repeatable`: see `is_repeatable`. `way_left`: the backend can be reached over another SSH connection.
    `response_started`: the client has been sent something."""
    if response_started or attempts_left <= 0 or not replayable or isinstance(error, NoStreamLeft):
        return Retry.NO
    way_lost = isinstance(error, BackendError) and error.way_lost
    where = Retry.SAME_BACKEND if way_lost and way_left else Retry.ELSEWHERE
    if isinstance(error, BackendConnectError | TunnelError):
        return where
    if not isinstance(error, ResponseInterrupted) or error.received:
        return Retry.NO
    if way_lost:
        return where if repeatable else Retry.NO
    return Retry.SAME_BACKEND if reused else Retry.NO


def is_repeatable(method: bytes, path: bytes) -> bool:
    """Does it change nothing when an engine is asked this twice? `path` without query."""
    return method in _READS or path in INFERENCE

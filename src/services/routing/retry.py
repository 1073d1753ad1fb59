"""May a failed attempt be made again, elsewhere? The answer follows from what the engine can have seen.

There are three cases:

1. No byte of the request reached the engine: the channel was refused, the tunnel was down. Anything may be
   sent elsewhere.
2. The request was written to a connection that had been idle, and the connection ended before any response
   byte. Engines close idle connections at 5 s; ours was a moment too late. The engine has, as far as HTTP
   lets one know, not begun. Once more, on a new connection, if we still have the bytes.
3. Everything else: the engine may be working on it. A second copy would double the load of a machine that is
   already late, so the client gets an error and decides for itself.
"""

from enum import Enum

from vastproxy.services.errors import BackendConnectError, ResponseInterrupted, TunnelError


class Retry(Enum):
    NO = "no"
    ELSEWHERE = "elsewhere"
    SAME_BACKEND = "same backend, new connection"


def decide(
    error: Exception, *, reused: bool, replayable: bool, response_started: bool, attempts_left: int
) -> Retry:
    """`reused`: the connection had served before. `replayable`: every body byte sent so far is still held.
    `response_started`: the client has been sent something."""
    if response_started or attempts_left <= 0:
        return Retry.NO
    if isinstance(error, BackendConnectError | TunnelError):
        return Retry.ELSEWHERE if replayable else Retry.NO
    if isinstance(error, ResponseInterrupted) and reused and not error.received and replayable:
        return Retry.SAME_BACKEND
    return Retry.NO

"""Is a request that went wrong a failure of the fleet's, or its client's own affair? Pure."""

from typing import Final

#: With these an answer is broken off for something that its client has done, or somebody has ordered.
_NOT_OURS: Final = frozenset(
    {"cancelled", "client_left", "malformed_request", "request_timeout", "request_too_large"}
)


def is_failure(status: int, error: str | None) -> bool:
    """Did a request fail that its client asked for rightly? `status`: what the client was answered, 499 where it left.
    `error`: the code of an error of ours, if there was one."""
    if error in _NOT_OURS:
        return False
    return status >= 500 or (status < 400 and bool(error))  # the second: an answer that had begun broke off

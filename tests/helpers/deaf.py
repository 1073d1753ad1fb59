"""A port that refuses everybody."""

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """One on loopback, ours for as long as the block lasts: a port that was merely let go of may be somebody else's by
    the time it is tried."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        yield place.getsockname()[1]

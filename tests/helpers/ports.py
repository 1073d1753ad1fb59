"""Ports for programs that have to be told one."""

import os
import random
import socket
from collections import deque
from pathlib import Path

#: A port that a process has found is nobody's until its program has started, which takes seconds. So each of the
#: processes that share the tests looks at ports of its own, and finds none twice in a row.
_LANES = 16
_LANE = int("0" + os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")) % _LANES
_found: deque[int] = deque(maxlen=256)

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000
_LOWEST_CLOSED = 9_100
#: Where the kernel gives nearly every port to whoever asks, as some machines are set up: the best that can be done.
_FEW, _HIGHEST = 1_000, 32_767
#: Other processes look at the same time, and shall not look at the same places.
_CHANCE = random.SystemRandom()


def closed_port() -> int:
    """A port on loopback on which nobody listens, and nobody begins to: neither the kernel nor `free_port` gives it to
    anybody."""
    while True:
        port = _CHANCE.randint(_LOWEST_CLOSED, _LOWEST - 1)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def free_port() -> int:
    """A port on loopback that nobody listens on. The kernel does not give it to anybody who asks for just any
    port, so it is still free when the program has started, and when it is started again."""
    highest = int(_RANGE.read_text().split()[0]) - 1
    if highest < _LOWEST + _FEW:
        highest = _HIGHEST
    while True:
        port = _CHANCE.randrange(_LOWEST + _LANE, highest + 1, _LANES)
        if port in _found:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _found.append(port)
        return port

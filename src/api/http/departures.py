"""Notices clients that leave while nothing is read from them.

An event loop that does not read from a socket does not hear of its end. Linux tells without reading (EPOLLRDHUP,
epoll_ctl(2)), and an epoll descriptor can itself be waited for, so one is enough for all connections. Elsewhere a
client that leaves while its upload is held up is noticed when it is read from again.
"""

import asyncio
import contextlib
import select
from collections.abc import Callable

_IS_POSSIBLE = hasattr(select, "epoll")


class Departures:
    """Watches sockets of one event loop, those that were given to `watch` and not to `forget`. Holds a descriptor
    only while there are any."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._watched: dict[int, Callable[[], None]] = {}

    def __len__(self) -> int:
        """How many are watched."""
        return len(self._watched)

    def watch(self, descriptor: int, on_left: Callable[[], None], *, halfway: bool) -> None:
        """Call `on_left` once when the other side has ended the connection; `halfway`: or its half of it."""
        if not _IS_POSSIBLE:
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._look)
        events = select.EPOLLRDHUP if halfway else 0  # EPOLLHUP and EPOLLERR come unasked
        try:
            self._epoll.register(descriptor, events)
        except FileExistsError:
            self._epoll.modify(descriptor, events)
        self._watched[descriptor] = on_left

    def forget(self, descriptor: int, on_left: Callable[[], None]) -> None:
        """Watch it no longer, if it is still watched for the same reason: its number may be another one's by now."""
        if self._watched.get(descriptor) == on_left:
            self._remove(descriptor)

    def _look(self) -> None:
        if self._epoll is None:
            return
        for descriptor, _ in self._epoll.poll(0):
            if (on_left := self._watched.get(descriptor)) is not None:
                self._remove(descriptor)
                on_left()

    def _remove(self, descriptor: int) -> None:
        del self._watched[descriptor]
        assert self._epoll is not None
        with contextlib.suppress(OSError):  # it is closed, and so forgotten by the kernel
            self._epoll.unregister(descriptor)
        if not self._watched:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

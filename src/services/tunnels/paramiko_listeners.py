"""The forwarders of one tunnel: one for each port that is used, made when it is first needed."""

import asyncio
import contextlib
import functools
import socket
from collections.abc import Callable
from dataclasses import dataclass

from vastproxy.services.tasks import Tasks
from vastproxy.services.threads import in_thread
from vastproxy.services.tunnels.paramiko_forwarder import LOCAL, Forwarder
from vastproxy.services.tunnels.paramiko_relay import tune
from vastproxy.services.tunnels.paramiko_slots import Slots


class NoListener(Exception):
    """The local half of a stream could not be made."""


@dataclass(eq=False, slots=True)
class Listener:
    """The forwarder of one port, made or still being made."""

    remote: tuple[str, int]
    making: "asyncio.Task[Forwarder | Exception]"
    #: Streams that use it or are about to.
    users: int = 0

    async def forwarder(self) -> Forwarder:
        """The forwarder, listening. Raises NoListener."""
        made = await asyncio.shield(self.making)
        if isinstance(made, Forwarder):
            return made
        raise NoListener(str(made) or type(made).__name__) from made


class Listeners:
    """Used on the event loop; starting and stopping happens in threads."""

    def __init__(self, make: Callable[[tuple[str, int]], Forwarder], tasks: Tasks) -> None:
        """`make` builds a forwarder to a host and port as seen from inside the instance, not yet started."""
        self._make = make
        self._tasks = tasks
        self._made: dict[tuple[str, int], Listener] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def enter(self, remote: tuple[str, int]) -> Listener:
        """The listener for `remote`, which stays until `leave`."""
        listener = self._made.get(remote)
        if listener is None:
            start = functools.partial(self._start, remote)
            making = self._tasks.spawn(in_thread(start, name="ssh listener"), name=f"listen for {remote}")
            listener = self._made[remote] = Listener(remote, making)
        listener.users += 1
        return listener

    def leave(self, listener: Listener, *, keep: bool) -> None:
        """A stream has ended or did not come to be. Unless told to keep it, a listener without streams is ended."""
        listener.users -= 1
        if keep or listener.users or self._tasks.closed or self._made.get(listener.remote) is not listener:
            return
        del self._made[listener.remote]
        ending = self._tasks.spawn(self._end(listener), name="end listener")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def addresses(self) -> list[tuple[str, int]]:
        """Where they listen."""
        return [one.local_bind for one in self._forwarders()]

    async def all(self) -> list[Forwarder]:
        """Every forwarder there is, once those under way are made and those given up have ended.

        None is made after that, as the connection has ended.
        """
        under_way = [*(listener.making for listener in self._made.values()), *self._ending]
        if under_way:
            await asyncio.wait(under_way)
        return self._forwarders()

    def _forwarders(self) -> list[Forwarder]:
        making = [listener.making for listener in self._made.values()]
        made = [task.result() for task in making if task.done() and not task.cancelled()]
        return [one for one in made if isinstance(one, Forwarder)]

    async def _end(self, listener: Listener) -> None:
        with contextlib.suppress(NoListener):
            forwarder = await listener.forwarder()
            await in_thread(forwarder.stop, name="ssh listener end")

    def _start(self, remote: tuple[str, int]) -> Forwarder | Exception:
        forwarder = self._make(remote)
        try:
            forwarder.start()
        except Exception as exc:  # whatever sshtunnel raises; returned, as nobody may be there to catch it
            forwarder.stop()
            return exc
        return forwarder


def local_end(slots: Slots, who: str) -> socket.socket:
    """Our end of a stream, with a port by which the forwarder will know it. Raises StreamsFull or NoListener."""
    with contextlib.ExitStack() as undo:
        try:
            sock = undo.enter_context(socket.socket())
            slots.require_descriptors(sock.fileno(), who)
            sock.setblocking(False)
            tune(sock)
            sock.bind((LOCAL, 0))
        except OSError as exc:
            raise NoListener(f"no local port for it ({exc.strerror or exc})") from exc
        undo.pop_all()
    return sock

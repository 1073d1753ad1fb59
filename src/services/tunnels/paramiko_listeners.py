"""The forwarders of one tunnel: one for each port that is used, made when it is first needed."""

import asyncio
import contextlib
import functools
import socket
from collections.abc import Callable

from vastproxy.services.tasks import Tasks
from vastproxy.services.threads import in_thread
from vastproxy.services.tunnels.paramiko_forwarder import LOCAL, Forwarder
from vastproxy.services.tunnels.paramiko_relay import tune
from vastproxy.services.tunnels.paramiko_slots import Slots


class NoListener(Exception):
    """The local half of a stream could not be made."""


class Listeners:
    """Used on the event loop; starting and stopping happens in threads."""

    def __init__(self, make: Callable[[tuple[str, int]], Forwarder], tasks: Tasks) -> None:
        """`make` builds a forwarder to a host and port as seen from inside the instance, not yet started."""
        self._make = make
        self._tasks = tasks
        self._made: dict[tuple[str, int], asyncio.Task[Forwarder | Exception]] = {}

    async def enter(self, remote: tuple[str, int]) -> Forwarder:
        """The forwarder to `remote`, until `leave`. Raises NoListener."""
        making = self._made.get(remote)
        if making is None:
            start = functools.partial(self._start, remote)
            making = self._tasks.spawn(in_thread(start, name="ssh listener"), name=f"listen for {remote}")
            self._made[remote] = making
        made = await asyncio.shield(making)
        if isinstance(made, Forwarder):
            made.users += 1
            return made
        self._made.pop(remote, None)
        raise NoListener(str(made) or type(made).__name__) from made

    def leave(self, remote: tuple[str, int], forwarder: Forwarder, *, keep: bool) -> None:
        """A stream has ended or did not come to be. Unless told to keep it, a listener without streams is ended."""
        forwarder.users -= 1
        if keep or forwarder.users or self._tasks.closed:
            return
        if self._made.pop(remote, None) is not None:
            self._tasks.spawn(in_thread(forwarder.stop, name="ssh listener end"), name="end listener")

    def addresses(self) -> list[tuple[str, int]]:
        """Where they listen."""
        done = [task.result() for task in self._made.values() if task.done() and not task.cancelled()]
        return [one.local_bind for one in done if isinstance(one, Forwarder)]

    async def all(self) -> list[Forwarder]:
        """Every forwarder there is, once those under way are made. None is made after that."""
        making = list(self._made.values())
        if making:
            await asyncio.wait(making)
        made = [task.result() for task in making if not task.cancelled() and task.exception() is None]
        return [one for one in made if isinstance(one, Forwarder)]

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

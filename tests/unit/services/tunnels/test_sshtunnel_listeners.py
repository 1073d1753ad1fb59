"""One listener for each port, however many streams come to it, and in whatever order they come and go."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from vastproxy.services.errors import StreamsFull
from vastproxy.services.tasks import Tasks
from vastproxy.services.tunnels.paramiko_forwarder import Forwarder
from vastproxy.services.tunnels.paramiko_listeners import Listeners, NoListener, local_end
from vastproxy.services.tunnels.paramiko_slots import Slots

REMOTE = ("127.0.0.1", 8000)


class PlayedForwarder(Forwarder):
    """Starts when the test lets it, and notes its end."""

    def __init__(self, may_start: threading.Event, failure: Exception | None = None) -> None:
        self.is_alive = False
        self.stopped = 0
        self._may_start = may_start
        self._failure = failure

    def start(self) -> None:
        assert self._may_start.wait(5)
        if self._failure is not None:
            raise self._failure

    def stop(self, force: bool = False) -> None:
        self.stopped += 1

    @property
    def local_bind(self) -> tuple[str, int]:
        return ("127.0.0.1", 4711)


class Scene:
    """Listeners whose forwarders the test holds."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.may_start = threading.Event()
        self.made: list[PlayedForwarder] = []
        self.tasks = Tasks("test")
        self._failure = failure
        self.listeners = Listeners(self._make, self.tasks)

    def _make(self, remote: tuple[str, int]) -> Forwarder:
        self.made.append(PlayedForwarder(self.may_start, self._failure))
        return self.made[-1]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_all_streams_to_a_port_share_one_listener_until_the_last_has_left() -> None:
    scene = Scene()
    first, second = scene.listeners.enter(REMOTE), scene.listeners.enter(REMOTE)
    assert first is second
    scene.may_start.set()
    assert await first.forwarder() is scene.made[0]
    assert scene.listeners.addresses() == [("127.0.0.1", 4711)]
    scene.listeners.leave(first, keep=False)
    await asyncio.sleep(0)
    assert scene.made[0].stopped == 0
    scene.listeners.leave(second, keep=False)
    await until(lambda: scene.made[0].stopped == 1)
    assert scene.listeners.addresses() == []
    await scene.tasks.aclose()


async def test_whoever_waits_for_a_listener_keeps_it_from_ending() -> None:
    """One stream gives up while the listener is still made; the other one gets it, alive."""
    scene = Scene()
    hasty, patient = scene.listeners.enter(REMOTE), scene.listeners.enter(REMOTE)
    scene.listeners.leave(hasty, keep=False)
    scene.may_start.set()
    forwarder = await patient.forwarder()
    assert forwarder is scene.made[0]
    assert scene.made[0].stopped == 0
    scene.listeners.leave(patient, keep=True)
    assert await scene.listeners.all() == [forwarder]
    await scene.tasks.aclose()


async def test_a_listener_that_everybody_gave_up_ends_once_it_is_made() -> None:
    """And whoever comes after that gets a new one."""
    scene = Scene()
    scene.listeners.leave(scene.listeners.enter(REMOTE), keep=False)
    again = scene.listeners.enter(REMOTE)
    scene.may_start.set()
    await until(lambda: bool(scene.made) and scene.made[0].stopped == 1)
    assert await again.forwarder() is scene.made[1]
    scene.listeners.leave(again, keep=True)
    assert [one.stopped for one in scene.made] == [1, 0]
    await scene.tasks.aclose()


async def test_the_end_of_a_tunnel_waits_for_listeners_that_were_given_up() -> None:
    """Else one that is still being made would listen for ever."""
    scene = Scene()
    scene.listeners.leave(scene.listeners.enter(REMOTE), keep=False)
    finishing = scene.tasks.spawn(scene.listeners.all(), name="finish")
    await until(lambda: bool(scene.made))
    assert not finishing.done()
    scene.may_start.set()
    assert await finishing == []
    assert scene.made[0].stopped == 1
    await scene.tasks.aclose()


async def test_a_listener_that_cannot_be_made_says_why_to_each_and_is_forgotten() -> None:
    scene = Scene(OSError("no buffer space"))
    scene.may_start.set()
    first, second = scene.listeners.enter(REMOTE), scene.listeners.enter(REMOTE)
    for listener in (first, second):
        with pytest.raises(NoListener, match="no buffer space"):
            await listener.forwarder()
        scene.listeners.leave(listener, keep=False)
    assert await scene.listeners.all() == []
    assert scene.listeners.enter(REMOTE) is not first
    assert len(scene.tasks) > 0
    await scene.listeners.all()
    await scene.tasks.aclose()


async def test_nothing_is_begun_while_the_tunnel_is_closing() -> None:
    scene = Scene()
    scene.may_start.set()
    listener = scene.listeners.enter(REMOTE)
    await listener.forwarder()
    await scene.tasks.aclose()
    scene.listeners.leave(listener, keep=False)
    assert scene.made[0].stopped == 0, "the end of the tunnel stops it"


def test_our_end_has_an_address_before_it_connects_and_leaves_descriptors_to_others() -> None:
    with local_end(Slots(), "x") as sock:
        host, port = sock.getsockname()
        assert host == "127.0.0.1"
        assert port > 0
        assert not sock.getblocking()
    with pytest.raises(StreamsFull, match="open files"):
        local_end(Slots(descriptors=lambda: 10), "x")

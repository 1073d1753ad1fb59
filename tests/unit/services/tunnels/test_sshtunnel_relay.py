"""The relay between a local socket and a channel, with a channel that the test plays."""

import asyncio
import contextlib
import queue
import socket
import threading
from collections.abc import Iterator

import paramiko
import pytest

from vastproxy.services.tunnels.forwarded import Caller
from vastproxy.services.tunnels.paramiko_relay import Relay


class PlayedChannel:
    """A channel whose other side is the test."""

    def __init__(self) -> None:
        self.eof_received = False
        self.status_event = threading.Event()
        self.incoming: queue.Queue[bytes] = queue.Queue()
        self.sent = b""
        self.sent_something = threading.Event()
        self.eof_sent = threading.Event()
        self.close_calls = 0

    def recv(self, nbytes: int) -> bytes:
        return self.incoming.get(timeout=10)

    def sendall(self, s: bytes) -> None:
        if self.status_event.is_set():
            raise OSError("Socket is closed")
        self.sent += s
        self.sent_something.set()

    def shutdown_write(self) -> None:
        self.eof_sent.set()

    def close(self) -> None:
        self.close_calls += 1
        self.end()

    def finish_half(self) -> None:
        """The other side has sent all it had."""
        self.eof_received = True
        self.incoming.put(b"")

    def end(self) -> None:
        """The channel is over: its close was received, or its connection died."""
        self.status_event.set()
        self.incoming.put(b"")


class PlayedConnection:
    """A connection that lives until the test says otherwise."""

    def __init__(self) -> None:
        self.alive = True

    def is_active(self) -> bool:
        return self.alive

    def has_ended(self) -> bool:
        return not self.alive


class Stage:
    """A relay at work in a thread, its channel, and our end of the local connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ours: socket.socket, theirs: socket.socket) -> None:
        self.ours = ours
        self.chan = PlayedChannel()
        self.connection = PlayedConnection()
        self.released: list[bool] = []
        self.caller = Caller(loop, lambda: self.released.append(True))
        relay = Relay(theirs, self.chan, self.caller, self.connection)
        self.thread = threading.Thread(target=relay.carry, daemon=True)
        self.thread.start()

    def receive_all(self) -> bytes:
        received = b""
        while data := self.ours.recv(65_536):
            received += data
        return received

    def ended(self) -> bool:
        self.thread.join(5)
        return not self.thread.is_alive()


@pytest.fixture
def stage() -> Iterator[Stage]:
    loop = asyncio.new_event_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname(), timeout=5)
        theirs, _ = listener.accept()
    theirs.settimeout(None)
    played = Stage(loop, ours, theirs)
    yield played
    ours.close()
    played.caller.closed.set()
    played.chan.end()
    assert played.ended(), "the relay did not end"
    theirs.close()
    loop.close()


def test_both_halves_end_by_themselves(stage: Stage) -> None:
    """What comes goes through; our end of data is an end of data there, and theirs is one here."""
    stage.ours.sendall(b"question")
    assert stage.chan.sent_something.wait(5)
    stage.chan.incoming.put(b"answer")
    stage.ours.shutdown(socket.SHUT_WR)
    assert stage.chan.eof_sent.wait(5)
    assert stage.chan.sent == b"question"
    stage.chan.incoming.put(b", and more")
    stage.chan.finish_half()
    assert stage.receive_all() == b"answer, and more"
    assert not stage.caller.is_lost


def test_their_half_may_end_first(stage: Stage) -> None:
    stage.chan.finish_half()
    assert stage.receive_all() == b""
    stage.ours.sendall(b"late")
    assert stage.chan.sent_something.wait(5)
    assert stage.chan.sent == b"late"
    assert not stage.chan.eof_sent.is_set()


def test_the_channel_is_closed_when_our_end_has_gone(stage: Stage) -> None:
    """Whether or not the other side has anything to say."""
    stage.ours.close()
    stage.caller.closed.set()
    assert stage.ended()
    assert stage.chan.close_calls
    assert not stage.caller.is_lost


def test_an_answer_is_whole_although_nobody_reads_the_question(stage: Stage) -> None:
    """After the other side has closed, what we still send is dropped without a reset."""
    stage.chan.incoming.put(b"a" * 100_000)
    stage.chan.finish_half()
    stage.chan.end()
    for _ in range(50):
        stage.ours.sendall(b"q" * 10_000)
    assert len(stage.receive_all()) == 100_000


def test_a_lost_connection_is_a_reset_and_no_end_of_data(stage: Stage) -> None:
    stage.connection.alive = False
    stage.chan.end()
    with pytest.raises(ConnectionResetError):
        stage.receive_all()
    assert stage.caller.is_lost
    assert stage.ended()


def test_a_connection_lost_after_the_data_had_ended_is_told_as_well(stage: Stage) -> None:
    stage.chan.finish_half()
    assert stage.receive_all() == b""
    stage.connection.alive = False
    stage.chan.end()
    assert stage.ended()
    assert stage.caller.is_lost


async def test_the_owner_hears_when_the_channel_is_done() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname(), timeout=5)
        theirs, _ = listener.accept()
    with ours, theirs:
        stage = Stage(loop, ours, theirs)
        stage.chan.finish_half()
        stage.chan.end()
        async with asyncio.timeout(5):
            while not stage.caller.is_done:
                await asyncio.sleep(0)
        ours.close()
        stage.caller.closed.set()
        assert await asyncio.to_thread(stage.ended)


def test_an_ended_caller_releases_once_and_before_anybody_hears_of_its_end() -> None:
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        had_ended: list[bool] = []
        caller = Caller(loop, lambda: had_ended.append(caller.ended.is_set()))
        caller.finish()
        caller.finish()
        assert had_ended == [False]
    caller.tell_done()  # the loop is closed: nobody listens, and nothing is raised


def test_a_channel_that_fails_in_the_middle_is_no_end_of_data(stage: Stage) -> None:
    """paramiko gives up sending while its connection still counts as alive: what got through is not all."""

    def stuck(s: bytes) -> None:
        raise paramiko.SSHException("Key-exchange timed out waiting for key negotiation")

    stage.chan.sendall = stuck  # type: ignore[method-assign]
    stage.ours.sendall(b"question")
    with pytest.raises(ConnectionResetError):
        stage.receive_all()
    assert stage.caller.is_lost
    assert stage.chan.close_calls


def test_a_window_that_cannot_be_widened_is_no_end_of_data(stage: Stage) -> None:
    def stuck(nbytes: int) -> bytes:
        raise paramiko.SSHException("Key-exchange timed out waiting for key negotiation")

    stage.chan.recv = stuck  # type: ignore[method-assign]
    stage.chan.incoming.put(b"part of an answer")
    with pytest.raises(ConnectionResetError):
        stage.receive_all()
    assert stage.caller.is_lost

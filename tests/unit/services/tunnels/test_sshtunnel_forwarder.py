"""sshtunnel's forwarder with what it must not do taken from it."""

import asyncio
import contextlib
import logging
import socket
import threading

import pytest
import sshtunnel  # type: ignore[import-untyped]

from tests.helpers.tunnelling import direct
from vastproxy.services.tunnels.forwarded import Caller
from vastproxy.services.tunnels.paramiko_forwarder import Callers, Forwarder, _Handler, _Server
from vastproxy.services.tunnels.paramiko_transport import SshTransport


class Waiting(Caller):
    """Somebody who waits, without a loop."""

    def __init__(self) -> None:
        self.ended = threading.Event()


def test_a_caller_is_known_by_his_whole_address_and_claimed_once() -> None:
    """The same port of another address of loopback is somebody else's."""
    callers, caller = Callers(), Waiting()
    callers.expect(("127.0.0.1", 4711), caller)
    assert callers.is_expected(("127.0.0.1", 4711))
    for other in (("127.0.0.1", 4712), ("127.0.0.2", 4711)):
        assert not callers.is_expected(other)
        assert callers.claim(other) is None
    assert callers.claim(("127.0.0.1", 4711)) is caller
    assert callers.claim(("127.0.0.1", 4711)) is None
    assert not callers.is_expected(("127.0.0.1", 4711))


def test_a_forwarder_never_connects_by_itself() -> None:
    """Over a connection that has ended it neither makes another one nor listens."""
    ours, peer = socket.socketpair()
    with contextlib.closing(peer), contextlib.closing(ours):
        transport = SshTransport(ours, lambda reason: None)
        forwarder = Forwarder(
            transport, direct(1), ("127.0.0.1", 8000), username="nobody", window_bytes=65_536
        )
        with pytest.raises(sshtunnel.BaseSSHTunnelForwarderError):
            forwarder.start()
        assert forwarder._server_list == []
        forwarder.stop()
        forwarder.stop()


def test_a_forwarder_has_no_keys_and_listens_on_loopback() -> None:
    ours, peer = socket.socketpair()
    with contextlib.closing(peer), contextlib.closing(ours):
        forwarder = Forwarder(
            SshTransport(ours, lambda reason: None),
            direct(1),
            ("127.0.0.1", 8000),
            username="nobody",
            window_bytes=65_536,
        )
        assert (forwarder.ssh_pkeys, forwarder.ssh_password, forwarder.ssh_proxy) == ([], None, None)
        assert forwarder._local_binds == [("127.0.0.1", 0)]
        forwarder.stop()


class Broken:
    """A connection with a bug."""

    def open_channel(self, *args: object, **options: object) -> None:
        raise ZeroDivisionError


def handler_for(callers_: Callers) -> type[_Handler]:
    class Handler(_Handler):
        remote_address = ("127.0.0.1", 8000)
        ssh_transport = Broken()
        logger = logging.getLogger("sshtunnel")
        callers = callers_
        window_bytes = 65_536

    return Handler


async def test_whoever_waits_hears_of_a_bug_and_of_a_thread_that_cannot_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No stream waits for ever, and none that broke off looks whole."""
    callers, loop = Callers(), asyncio.get_running_loop()
    handler = handler_for(callers)
    released: list[str] = []
    with (
        _Server(("127.0.0.1", 0), handler, logger=logging.getLogger("sshtunnel")) as server,
        socket.create_connection(server.server_address) as ours,
    ):
        theirs, address = server.get_request()
        caller = Caller(loop, lambda: released.append("bug"))
        callers.expect(address, caller)
        with pytest.raises(ZeroDivisionError):
            handler(theirs, address, server)
        assert isinstance(await caller.opened, ConnectionAbortedError)
        assert caller.is_lost
        waiting = Caller(loop, lambda: released.append("no thread"))
        callers.expect(address, waiting)
        try:
            raise RuntimeError("can't start new thread")
        except RuntimeError:
            server.handle_error(theirs, address)
            server.handle_error(theirs, address)
        assert isinstance(await waiting.opened, ConnectionRefusedError)
        assert ours.recv(1) == b""
    assert released == ["bug", "no thread"]
    assert "a stream of the sshtunnel engine failed" in caplog.text

"""Another protocol through an exchange: both ways, both halves, slow, silent and broken."""

import asyncio
from collections.abc import Callable

import pytest

from tests.helpers.exchanging import Asked, Scene
from vastproxy.api.errors import request_timeout
from vastproxy.settings.model import UpstreamSettings

pytestmark = pytest.mark.virtual_time

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade, x-hop\r\nupgrade: websocket\r\n"
    b"sec-websocket-accept: abc\r\nx-hop: 1\r\n\r\n"
)


async def piped(scene: Scene, rest: bytes = b"") -> Asked:
    asked = await scene.ask(
        headers=[(b"connection", b"upgrade"), (b"upgrade", b"websocket")], upgrade=b"websocket"
    )
    assert b"\r\nconnection: upgrade\r\nupgrade: websocket\r\n" in asked.stream.written
    asked.stream.feed(SWITCH + rest)
    return asked


async def test_an_upgrade_makes_a_pipe(scene: Scene) -> None:
    asked = await piped(scene, b"\x01")
    assert asked.client.switched
    assert asked.client.headers == [
        (b"sec-websocket-accept", b"abc"),
        (b"connection", b"upgrade"),
        (b"upgrade", b"websocket"),
        (b"x-request-id", b"r1"),
        (b"x-vastproxy-instance", b"1"),
    ]
    asked.exchange.client_data(b"up", complete=False)
    asked.stream.feed(b"\x02")
    assert asked.client.body == b"\x01\x02"
    assert asked.stream.written.endswith(b"up")
    asked.exchange.client_left()
    assert asked.stream.aborted
    scene.assert_idle()
    assert scene.access.lines == [(101, 1, 2, 2, 1)]


async def test_a_pipe_of_which_the_client_ends_its_half(scene: Scene) -> None:
    asked = await piped(scene)
    asked.exchange.client_data(b"bye", complete=True)
    assert asked.stream.written.endswith(b"bye")
    assert asked.stream.eof_written
    asked.stream.feed(b"still here")
    assert asked.client.body == b"still here"
    asked.stream.feed_eof()
    assert asked.client.complete
    assert asked.stream.aborted
    scene.assert_idle()
    assert scene.backends[0].ways[0].idle == 0


async def test_a_pipe_that_the_engine_ends(scene: Scene) -> None:
    asked = await piped(scene)
    asked.stream.feed_eof()
    assert asked.client.complete
    asked.exchange.client_data(b"late", complete=True)
    scene.assert_idle()


async def test_a_pipe_in_which_nobody_speaks_ends(make_scene: Callable[..., Scene]) -> None:
    """It is not the engine's failure: a client may have nothing to say."""
    scene = make_scene(upstream=UpstreamSettings(idle_timeout_s=10))
    asked = await piped(scene)
    await asyncio.sleep(9)
    asked.exchange.client_data(b"up", complete=False)
    await asyncio.sleep(9)
    assert not asked.client.ended
    await asyncio.sleep(2)
    assert asked.client.complete
    assert asked.stream.aborted
    scene.assert_idle()


async def test_a_pipe_that_breaks(scene: Scene) -> None:
    """No error of ours among bytes of another protocol."""
    asked = await piped(scene, b"\x01")
    asked.stream.lose(ConnectionResetError())
    assert asked.client.broken
    assert asked.client.body == b"\x01"
    scene.assert_idle(failures=1)


async def test_a_pipe_is_slow_in_both_directions(scene: Scene) -> None:
    asked = await piped(scene)
    asked.stream.fill()
    asked.exchange.client_data(b"up", complete=False)
    assert not asked.client.reading
    asked.stream.drain()
    assert asked.client.reading
    asked.client.on_send = lambda: setattr(asked.client, "write_paused", True)
    asked.stream.feed(b"down")
    assert not asked.stream.reading
    asked.client.write_paused = False
    asked.exchange.client_writable()
    assert asked.stream.reading
    asked.exchange.client_left()


async def test_a_client_of_a_pipe_that_fails(scene: Scene) -> None:
    asked = await piped(scene)
    asked.exchange.client_failed(request_timeout(1, "body"))
    assert asked.client.broken
    assert asked.stream.aborted


async def test_an_upgrade_that_the_engine_declines(scene: Scene) -> None:
    asked = await scene.ask(upgrade=b"websocket")
    asked.stream.feed(OK)
    assert (asked.client.status, asked.client.body, asked.client.complete) == (200, b"ok", True)
    assert scene.backends[0].ways[0].idle == 1


async def test_a_switch_that_nobody_offered(scene: Scene) -> None:
    asked = await scene.ask()
    asked.stream.feed(SWITCH)
    assert (asked.client.status, asked.error) == (502, "backend_protocol_error")

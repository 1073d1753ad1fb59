"""Short requests of our own through a tunnel: one connection each, a bounded answer, an error that says what was."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from tests.helpers.exchanging import PORT, WireStream, WireTunnel, settle
from vastproxy.services.backends.engines import ProbeResponse
from vastproxy.services.backends.tunnel_fetch import MAX_ANSWER_BYTES, TunnelFetch
from vastproxy.services.errors import (
    BackendProtocolError,
    BackendTimeout,
    ChannelRefused,
    ResponseInterrupted,
    TunnelLost,
)
from vastproxy.services.tunnels.base import Tunnel

pytestmark = pytest.mark.virtual_time


class Asking:
    """One fetch under way."""

    def __init__(self, tunnel: WireTunnel, **options: object) -> None:
        fetch: Callable[..., object] = TunnelFetch(cast(Tunnel, tunnel))
        path = options.pop("path", "/health")
        work = fetch(PORT, path, timeout_s=5, **options)
        self.task: asyncio.Task[ProbeResponse] = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._tunnel = tunnel

    async def stream(self) -> WireStream:
        await settle()
        return self._tunnel.streams[-1]


async def test_a_question_and_its_answer() -> None:
    tunnel = WireTunnel()
    asking = Asking(tunnel, path="/v1/models?x", headers={"authorization": "Bearer t"})
    stream = await asking.stream()
    head = stream.written.decode().split("\r\n")
    assert head[0] == "GET /v1/models?x HTTP/1.1"
    assert head[1] == f"host: 127.0.0.1:{PORT}"
    assert head[2].startswith("user-agent: vastproxy/")
    assert head[3:] == ["connection: close", "authorization: Bearer t", "", ""]
    stream.feed(
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nX-A: \xe9\r\ncontent-length: 6\r\n\r\none"
    )
    stream.feed(b"two")
    answer = await asking.task
    assert (answer.status, answer.headers["x-a"], answer.body) == (200, "é", b"onetwo")
    assert stream.aborted


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ({"method": "POST", "body": b"{}"}, b"content-length: 2\r\n\r\n{}"),
        ({"method": "POST"}, b"content-length: 0\r\n\r\n"),
        ({"method": "GET"}, b"connection: close\r\n\r\n"),
    ],
)
async def test_bodies_have_a_length(options: dict[str, object], end: bytes) -> None:
    asking = Asking(WireTunnel(), **options)
    stream = await asking.stream()
    assert stream.written.endswith(end)
    stream.feed(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (await asking.task).body == b""


async def test_head() -> None:
    asking = Asking(WireTunnel(), method="HEAD")
    (await asking.stream()).feed(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
    assert (await asking.task).body == b""


async def test_an_answer_that_ends_with_the_connection() -> None:
    asking = Asking(WireTunnel())
    stream = await asking.stream()
    stream.feed(b"HTTP/1.0 200 OK\r\n\r\nall")
    stream.feed_eof()
    assert (await asking.task).body == b"all"


async def test_a_closed_port() -> None:
    tunnel = WireTunnel()
    tunnel.refuse()
    with pytest.raises(ChannelRefused):
        await Asking(tunnel).task


@pytest.mark.parametrize("what", ["opening", "head", "body"])
async def test_the_limit_is_for_all_of_it(what: str) -> None:
    tunnel = WireTunnel()
    if what == "opening":
        tunnel.gate.clear()
    asking = Asking(tunnel)
    await settle()
    if what == "body":
        tunnel.streams[0].feed(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
        for _ in range(4):
            await asyncio.sleep(1)
            tunnel.streams[0].feed(b"x")
    with pytest.raises(BackendTimeout):
        await asking.task
    assert asyncio.get_running_loop().time() == pytest.approx(5)
    assert tunnel.waiting == 0
    assert all(stream.aborted for stream in tunnel.streams)


async def test_an_endless_answer() -> None:
    asking = Asking(WireTunnel())
    stream = await asking.stream()
    stream.feed(b"HTTP/1.1 200 OK\r\n\r\n")
    stream.feed(b"x" * MAX_ANSWER_BYTES)
    stream.feed(b"x")
    stream.feed(b"x")
    with pytest.raises(BackendProtocolError, match="more than"):
        await asking.task
    assert stream.aborted


@pytest.mark.parametrize("hangs_up", [True, False])
async def test_an_engine_that_hangs_up(hangs_up: bool) -> None:
    tunnel = WireTunnel()
    tunnel.hangs_up = hangs_up
    asking = Asking(tunnel)
    stream = await asking.stream()
    stream.lose()
    with pytest.raises(ResponseInterrupted):
        await asking.task
    assert asyncio.get_running_loop().time() == 0


async def test_a_stream_that_breaks_off_with_its_tunnel_says_nothing_about_the_engine() -> None:
    tunnel = WireTunnel()
    asking = Asking(tunnel)
    stream = await asking.stream()
    tunnel.is_alive = False
    stream.lose()
    with pytest.raises(TunnelLost, match="/health"):
        await asking.task


async def test_garbage_and_switches() -> None:
    for data in (b"SSH-2.0-x\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"):
        asking = Asking(WireTunnel())
        (await asking.stream()).feed(data)
        with pytest.raises(BackendProtocolError):
            await asking.task


async def test_who_gives_up_leaves_no_connection() -> None:
    asking = Asking(WireTunnel())
    stream = await asking.stream()
    asking.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking.task
    assert stream.aborted

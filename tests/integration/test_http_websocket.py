"""WebSocket through the proxy, between a client and a server that know it well."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tests.helpers.stage import Stage, always, ok, until
from tests.helpers.uv import BOTH_LOOPS

pytestmark = BOTH_LOOPS

Talker = Callable[[ServerConnection], Awaitable[None]]


async def echo(socket: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in socket:
            await socket.send(message)


@asynccontextmanager
async def websockets(talker: Talker = echo, **options: Any) -> AsyncIterator[Stage]:
    """The proxy before an engine that speaks WebSocket."""
    async with (
        Stage(always(ok())) as stage,
        serve(talker, "127.0.0.1", 0, max_size=None, close_timeout=2, **options) as server,
    ):
        stage.lead_to(next(iter(server.sockets)).getsockname()[1])
        yield stage


def client(stage: Stage, **options: Any) -> connect:
    url = f"ws://127.0.0.1:{stage.port}/v1/realtime?model=m"
    return connect(url, max_size=None, proxy=None, close_timeout=2, **options)


async def closed(socket: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as caught:
        await socket.recv()
    frame = caught.value.rcvd
    assert frame is not None
    return frame.code, frame.reason


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_messages_of_all_sorts_come_back(compression: str | None) -> None:
    messages: list[str | bytes] = ["", "text é€😀", b"", b"\x00\xff", "x" * 70_000, b"y" * 5_000_000]
    async with websockets() as stage:
        async with client(stage, compression=compression) as socket:
            for message in messages:
                await socket.send(message)
                assert await socket.recv() == message
            await asyncio.gather(*(socket.send(f"{number}") for number in range(100)))
            assert [await socket.recv() for _ in range(100)] == [f"{number}" for number in range(100)]
            await socket.send([b"frag", b"ment", b"ed"])
            assert await socket.recv() == b"fragmented"
        await stage.idle()


async def test_the_handshake_says_everything_to_the_other_side() -> None:
    requests: list[Request] = []

    async def talk(socket: ServerConnection) -> None:
        assert socket.request is not None
        requests.append(socket.request)
        await socket.send(json.dumps([socket.subprotocol, str(socket.request.path)]))

    async with websockets(talk, subprotocols=[Subprotocol("realtime")]) as stage:
        headers = {"authorization": "Bearer mine", "openai-beta": "realtime=v1"}
        wanted = [Subprotocol("other"), Subprotocol("realtime")]
        async with client(stage, subprotocols=wanted, additional_headers=headers) as socket:
            assert json.loads(await socket.recv()) == ["realtime", "/v1/realtime?model=m"]
            assert socket.response is not None
            assert socket.response.headers["x-vastproxy-instance"] == "1"
    assert requests[0].headers["openai-beta"] == "realtime=v1"
    assert requests[0].headers["authorization"] == "Bearer token-of-1"
    assert requests[0].headers["x-forwarded-for"] == "127.0.0.1"


async def test_pings_of_both_sides_are_answered_by_the_other() -> None:
    async def talk(socket: ServerConnection) -> None:
        await (await socket.ping(b"from the engine"))
        await socket.send("ponged")
        await echo(socket)

    async with websockets(talk) as stage, client(stage) as socket:
        assert await socket.recv() == "ponged"
        latency_s = await (await socket.ping(b"from the client"))
        assert latency_s < 5


async def test_the_client_closes() -> None:
    codes: list[tuple[int | None, str | None]] = []

    async def talk(socket: ServerConnection) -> None:
        await echo(socket)
        await socket.wait_closed()
        codes.append((socket.close_code, socket.close_reason))

    async with websockets(talk) as stage:
        async with client(stage) as socket:
            await socket.close(4001, "enough")
            assert (socket.close_code, socket.close_reason) == (4001, "enough")
        await until(lambda: bool(codes))
        assert codes == [(4001, "enough")]
        await stage.idle()
        await until(lambda: not stage.client_connections)


async def test_the_engine_closes() -> None:
    async def talk(socket: ServerConnection) -> None:
        await socket.send("last words")
        await socket.close(4002, "no more")

    async with websockets(talk) as stage:
        async with client(stage) as socket:
            assert await socket.recv() == "last words"
            assert await closed(socket) == (4002, "no more")
        await stage.idle()
        await until(lambda: not stage.client_connections)


async def test_an_engine_that_refuses_says_why() -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(HTTPStatus.FORBIDDEN, "not for you\n")

    async with websockets(process_request=refuse) as stage:
        with pytest.raises(InvalidStatus) as caught:
            async with client(stage):
                pass
        assert caught.value.response.status_code == 403
        assert caught.value.response.body == b"not for you\n"
        await stage.idle()


@pytest.mark.parametrize("who", ["client", "engine"])
async def test_who_is_gone_without_a_word_is_missed_at_once(who: str) -> None:
    ended = asyncio.Event()

    async def talk(socket: ServerConnection) -> None:
        await socket.send("there")
        if who == "engine":
            socket.transport.abort()
        await socket.wait_closed()
        ended.set()

    async with websockets(talk) as stage:
        async with client(stage) as socket:
            assert await socket.recv() == "there"
            if who == "client":
                socket.transport.abort()
            else:
                with pytest.raises(ConnectionClosed) as caught:
                    await socket.recv()
                assert caught.value.rcvd is None  # nobody invented a proper end
        await asyncio.wait_for(ended.wait(), 10)  # long before pings would find it out
        await stage.idle()


async def test_many_at_once_do_not_mix() -> None:
    async with websockets() as stage:

        async def talk(number: int) -> None:
            async with client(stage) as socket:
                for count in range(20):
                    await socket.send(f"{number}/{count}")
                    assert await socket.recv() == f"{number}/{count}"

        async with asyncio.TaskGroup() as group:
            for number in range(30):
                group.create_task(talk(number))
        await stage.idle()

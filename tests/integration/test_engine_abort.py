"""Id and abort against an engine that listens: with both it stops, without either of them it does not."""

import asyncio
import json

import pytest

from tests.helpers.engines import FakeEngine, RecordedRequest
from tests.helpers.http_fetch import fetch
from tests.helpers.raw import Client, ask
from vastproxy.services.backends.abort import Aborter
from vastproxy.services.backends.engine_kinds import EngineKind
from vastproxy.services.backends.rids import carry, new_rid

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


async def begin(client: Client, engine: FakeEngine, body: bytes) -> RecordedRequest:
    """A stream that is under way and stands still."""
    engine.pause_after(1)
    await client.send("POST", CHAT, JSON, body)
    (request,) = await engine.wait_for_requests(1, path=CHAT)
    await asyncio.wait_for(engine.paused.wait(), 5)
    return request


def body_of(*, rid: str | None) -> tuple[bytes, str]:
    plain = json.dumps({"model": "m", "messages": [], "stream": True, "max_tokens": 1000}).encode()
    if rid is None:
        return plain, ""
    carried = carry(CHAT.encode(), plain, rid)
    assert carried is not None
    return carried.body, carried.rid


async def test_an_engine_that_ignores_closed_streams_stops_because_it_was_told_before() -> None:
    aborter, closed = Aborter(), asyncio.Event()
    async with FakeEngine("sglang", token="t") as engine, Client(engine.port) as client:
        engine.token, engine.ignores_closed_streams = None, True
        body, rid = body_of(rid=new_rid())
        request = await begin(client, engine, body)
        assert request.rid == rid

        def close() -> None:
            client.writer.transport.abort()
            closed.set()

        aborter.abort(fetch, EngineKind.SGLANG, engine.port, rid, token=None, close=close)
        await asyncio.wait_for(request.ended.wait(), 5)
        await asyncio.wait_for(closed.wait(), 5)
        assert request.was_aborted_first
        assert list(engine.aborted) == [rid]
        await aborter.aclose()


@pytest.mark.parametrize("with_id", [False, True])
async def test_without_an_id_or_too_late_it_goes_on(with_id: bool) -> None:
    """What the other tests prove is worth something only because this engine does not stop otherwise."""
    aborter, closed = Aborter(), asyncio.Event()
    async with FakeEngine("sglang") as engine, Client(engine.port) as client:
        engine.ignores_closed_streams = True
        body, rid = body_of(rid=new_rid() if with_id else None)
        request = await begin(client, engine, body)
        client.writer.transport.abort()
        await asyncio.wait_for(request.disconnected.wait(), 5)
        aborter.abort(fetch, EngineKind.SGLANG, engine.port, rid, token=None, close=closed.set)
        await asyncio.wait_for(closed.wait(), 5)
        assert list(engine.aborted) == [rid]
        assert not request.ended.is_set()
        assert engine.active == 1
        await aborter.aclose()


async def test_an_id_is_refused_for_several_sequences_and_while_it_is_in_use() -> None:
    """So the module that puts ids in must leave such requests alone, and never use an id twice."""
    rid = new_rid()
    async with FakeEngine("sglang") as engine, Client(engine.port) as client:
        several = json.dumps({"model": "m", "messages": [], "n": 2, "rid": rid}).encode()
        assert carry(CHAT.encode(), several.replace(rid.encode(), b""), new_rid()) is None
        assert (await ask(engine.port, "POST", CHAT, headers=JSON, body=several)).status == 400
        body, _ = body_of(rid=rid)
        await begin(client, engine, body)
        assert (await ask(engine.port, "POST", CHAT, headers=JSON, body=body)).status == 400
        client.writer.transport.abort()

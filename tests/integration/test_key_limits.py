"""The limits of keys, in front of a running `vastproxy serve`."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.proxy_process import ProxyProcess
from tests.helpers.raw import Answer, Client
from tests.helpers.scene import CHAT, Scene, ask, chat, open_scene, served_by


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as scene:
        await scene.rent(101)
        yield scene


async def make_key(directory: Path, *options: str, name: str = "web") -> str:
    command = ProxyProcess(directory, arguments=("keys", "create", name, *options))
    assert await command.run() == 0, command.output
    return command.stdout.rstrip("\n")


def code(answer: Answer) -> tuple[int, str]:
    error = json.loads(answer.body)["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return answer.status, error["code"]


async def test_requests_per_minute(scene: Scene, tmp_path: Path) -> None:
    """The third is told how long to wait, in the words of OpenAI; other keys and our own pages go on."""
    key = await make_key(tmp_path, "--rpm", "2")
    proxy = await scene.serve(VASTPROXY_API_KEYS="other")
    first = await ask(proxy, key=key)
    assert served_by(first) == 101
    assert first.header("x-ratelimit-limit-requests") == "2"
    assert first.header("x-ratelimit-remaining-requests") == "1"
    async with Client(proxy.port) as client:  # what is known of a head must not open a way around
        assert (await client.ask("POST", CHAT, **chat(key=key))).status == 200
        refused = await client.ask("POST", CHAT, **chat(key=key))
    assert code(refused) == (429, "rate_limit_exceeded")
    assert 1 <= int(refused.header("retry-after") or 0) <= 30
    assert refused.header("x-ratelimit-remaining-requests") == "0"
    assert refused.header("x-vastproxy-instance") is None
    assert served_by(await ask(proxy, key="other")) == 101
    assert (await proxy.ask("GET", "/v1/models", {"authorization": f"Bearer {key}"})).status == 200
    assert key not in proxy.output


async def test_requests_at_the_same_time(scene: Scene, tmp_path: Path) -> None:
    """A place is free again when a stream has ended, and when its client has left."""
    key = await make_key(tmp_path, "--concurrent", "1")
    proxy = await scene.serve()
    engine = scene.machines[101].engine
    async with Client(proxy.port) as client:
        engine.pause_after(3)
        await client.send("POST", CHAT, **chat(stream=True, tokens=6, key=key))
        head = await client.head()
        await asyncio.wait_for(engine.paused.wait(), 10)
        assert code(await ask(proxy, key=key)) == (429, "rate_limit_exceeded")
        engine.resume()
        assert (await client.rest(head)).complete
        assert served_by(await ask(proxy, key=key)) == 101
    async with Client(proxy.port) as client:
        engine.pause_after(3)
        await client.send("POST", CHAT, **chat(stream=True, tokens=6, key=key))
        await client.head()
        await asyncio.wait_for(engine.paused.wait(), 10)
        assert code(await ask(proxy, key=key)) == (429, "rate_limit_exceeded")
    async with asyncio.timeout(5):
        while (await ask(proxy, key=key)).status != 200:
            await asyncio.sleep(0.02)
    engine.resume()


async def test_models(scene: Scene, tmp_path: Path) -> None:
    """A model that is not the key's is refused wherever in the body it is named; so is a request that names none."""
    key = await make_key(tmp_path, "--model", "M*")
    proxy = await scene.serve()
    assert served_by(await ask(proxy, key=key)) == 101
    wanted = chat(key=key)
    seen = json.loads((await proxy.ask("GET", "/v1/models", wanted["headers"])).body)["data"]
    assert [model["id"] for model in seen] == ["m", "model-101"]
    other = await make_key(tmp_path, "--model", "gpt-*", name="other")
    assert json.loads((await proxy.ask("GET", "/v1/models", chat(key=other)["headers"])).body)["data"] == []
    unserved = await proxy.ask(
        "POST", CHAT, chat(key=other)["headers"], b'{"model": "gpt-9", "messages": []}'
    )
    assert code(unserved) == (404, "model_not_found")
    assert b"model-101" not in unserved.body, "what is served is none of its business"
    for body in (
        b'{"model": "gpt", "messages": []}',
        b'{"messages": [{"role": "user", "content": "' + b"x" * 200_000 + b'"}], "model": "gpt"}',
        b'{"messages": []}',
        b'{"model": "m", "messages": [], "model": "gpt"}',
        b'{"model": "m", "messages": [], "Model": "gpt"}',
        b'{"messages": ["'
        + b"x" * 20_000
        + b'"], "mod\\u0065l": "gpt", "x": "'
        + b"y" * 20_000
        + b'", "model": "m"}',
        b"no json at all",
        b"",
    ):
        answer = await proxy.ask("POST", CHAT, wanted["headers"], body)
        assert code(answer) == (403, "model_not_allowed"), body[:80]
    async with Client(proxy.port) as client:  # in pieces, the model last
        await client.send("POST", CHAT, {**wanted["headers"], "transfer-encoding": "chunked"})
        await client.send_data(b'{"messages": [], ')
        await asyncio.sleep(0.2)  # longer than a body is gathered whose model does not matter
        await client.send_data(b'"model": "gpt"}', last=True)
        assert code(await client.rest(await client.head())) == (403, "model_not_allowed")
    async with Client(proxy.port) as client:  # in pieces, another one behind the one that is allowed
        await client.send("POST", CHAT, {**wanted["headers"], "transfer-encoding": "chunked"})
        await client.send_data(b'{"model": "m", "messages": [], ')
        await asyncio.sleep(0.2)
        await client.send_data(b'"model": "gpt"}', last=True)
        assert code(await client.rest(await client.head())) == (403, "model_not_allowed")
    assert sum(each.path == CHAT for each in scene.machines[101].engine.requests) == 1
    assert code(await proxy.ask("GET", "/v1/x", wanted["headers"])) == (403, "model_not_allowed")

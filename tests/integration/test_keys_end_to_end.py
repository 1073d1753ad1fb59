"""Keys made by `vastproxy keys` in front of a running `vastproxy serve`."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.proxy_process import ProxyProcess
from tests.helpers.raw import Answer, Client
from tests.helpers.scene import CHAT, Scene, ask, chat, open_scene, served_by

ADMIN_PAGE = "/vastproxy/v1/backends"
#: From the end of `keys revoke` until every request that is sent is refused.
AT_ONCE_S = 0.5


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as scene:
        yield scene


async def keys(directory: Path, *arguments: str) -> str:
    """What `vastproxy keys …` prints."""
    command = ProxyProcess(directory, arguments=("keys", *arguments))
    assert await command.run() == 0, command.output
    return command.stdout.rstrip("\n")


def code(answer: Answer) -> tuple[int, str]:
    error = json.loads(answer.body)["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return answer.status, error["code"]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def until_refused(client: Client, key: str) -> float:
    """Ask on this connection until the key is refused; returns after how long the last request was sent that was not.
    How long an answer takes says more about the machine."""
    began, accepted_s = time.monotonic(), 0.0
    async with asyncio.timeout(20):
        while True:
            sent_s = time.monotonic() - began
            answer = await client.ask("POST", CHAT, **chat(key=key))
            if answer.status != 200:
                assert code(answer) == (401, "invalid_api_key")
                return accepted_s
            accepted_s = sent_s


async def test_a_key_is_made_used_and_revoked_while_the_proxy_runs(scene: Scene, tmp_path: Path) -> None:
    """The first key closes the door. A revoked one is refused on the connection that it has opened; its running stream
    comes to its end. What is for others stays as it is. No key is ever written."""
    await scene.rent(101)
    proxy = await scene.serve()
    assert served_by(await ask(proxy)) == 101
    web, admin, other = [
        await keys(tmp_path, "create", *words) for words in (("web",), ("ops", "--admin"), ("other",))
    ]
    async with Client(proxy.port) as client:
        assert await until_refused(client, "none-of-ours") < AT_ONCE_S
    await proxy.says("inbound keys were read again: 3 in")
    assert code(await proxy.ask("GET", "/v1/models")) == (401, "invalid_api_key")
    assert served_by(await ask(proxy, key=web)) == 101
    assert code(await proxy.ask("GET", ADMIN_PAGE, bearer(web))) == (403, "insufficient_permissions")
    assert (await proxy.ask("GET", ADMIN_PAGE, bearer(admin))).status == 200
    assert code(await ask(proxy, key=admin)) == (403, "insufficient_permissions")
    assert (await proxy.ask("GET", "/healthz")).status == 200
    engine = scene.machines[101].engine
    async with Client(proxy.port) as streaming, Client(proxy.port) as client:
        assert (await client.ask("POST", CHAT, **chat(key=web))).status == 200
        engine.pause_after(3)
        await streaming.send("POST", CHAT, **chat(stream=True, tokens=6, key=web))
        head = await streaming.head()
        await asyncio.wait_for(engine.paused.wait(), 10)
        assert web not in await keys(tmp_path, "revoke", web, "--yes")
        assert await until_refused(client, web) < AT_ONCE_S
        engine.resume()
        answer = await streaming.rest(head)
    assert answer.complete
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert served_by(await ask(proxy, key=other)) == 101
    for key in (web, admin, other):
        assert key not in proxy.output
        assert key not in (tmp_path / "state" / "keys.json").read_text()


async def test_a_broken_file_changes_nothing_and_the_last_key_leaves_the_door_closed(
    scene: Scene, tmp_path: Path
) -> None:
    await scene.rent(101)
    key = await keys(tmp_path, "create", "web")
    proxy = await scene.serve()
    file = tmp_path / "state" / "keys.json"
    good = file.read_text()
    file.write_text(good[:-20])
    assert served_by(await ask(proxy, key=key)) == 101
    await asyncio.sleep(0.2)  # the file is looked at when a request comes, ten times a second
    assert served_by(await ask(proxy, key=key)) == 101
    await proxy.says("cannot be used")
    assert len(proxy.lines("cannot be used")) == 1
    file.write_text(good)
    assert "it was the last one" in await keys(tmp_path, "revoke", "web", "--yes")
    async with Client(proxy.port) as client:
        assert await until_refused(client, key) < AT_ONCE_S
    assert code(await ask(proxy)) == (401, "invalid_api_key")


async def test_no_secret_is_written_anywhere(scene: Scene, tmp_path: Path) -> None:
    """Keys good and bad, cookies, prompts, what stands in a query: not at the most talkative level, not in what it
    tells of itself, not in the files that it keeps."""
    await scene.rent(101)
    web = await keys(tmp_path, "create", "web")
    ops = await keys(tmp_path, "create", "ops", "--admin")
    proxy = await scene.serve(VASTPROXY_LOGGING__LEVEL="debug", VASTPROXY_API_KEYS="plain-inbound-key")
    secrets = [
        web,
        ops,
        "plain-inbound-key",
        "wrong-key",
        "crumb-of-a-cookie",
        "words of a prompt",
        "in-the-query",
    ]
    secrets += [scene.machines[101].token, scene.api.account.api_key]
    body = b'{"model": "m", "messages": [{"role": "user", "content": "words of a prompt"}]}'
    told = ""
    for key in (web, ops, "plain-inbound-key", "wrong-key"):
        headers = {**bearer(key), "cookie": "session=crumb-of-a-cookie", "content-type": "application/json"}
        await proxy.ask("POST", f"{CHAT}?api_key=in-the-query", headers, body)
        await proxy.ask("POST", "/flush_cache?api_key=in-the-query", headers, body)
        await proxy.ask("POST", CHAT, {**headers, "expect": "the impossible"}, body)
        for page in (ADMIN_PAGE, "/vastproxy/v1/process", "/vastproxy/nothing", "/healthz", "/v1/models"):
            told += (await proxy.ask("GET", page, headers)).body.decode()
    proxy.signal(signal.SIGTERM)
    assert await proxy.wait() == 0
    kept = "".join(each.read_bytes().decode("latin-1") for each in (tmp_path / "state").iterdir())
    assert "status=200" in proxy.output
    for secret in secrets:
        for where, text in (("output", proxy.output), ("pages", told), ("files", kept)):
            assert secret not in text, (secret, where)


async def test_when_a_key_was_used_is_known_after_the_end(scene: Scene, tmp_path: Path) -> None:
    await scene.rent(101)
    key = await keys(tmp_path, "create", "web")
    await keys(tmp_path, "create", "idle")
    proxy = await scene.serve()
    assert served_by(await ask(proxy, key=key)) == 101
    proxy.signal(signal.SIGTERM)
    assert await proxy.wait() == 0
    rows = json.loads(await keys(tmp_path, "list", "--json"))["keys"]
    assert [row["last_used_at"] is not None for row in rows] == [True, False]


async def test_keys_of_the_file_open_an_address_to_others(scene: Scene, tmp_path: Path) -> None:
    """They count as keys, beside those of the environment; what is left of an empty file lets nobody in."""
    key = await keys(tmp_path, "create", "web")
    proxy = await scene.serve(LISTEN_ADDR="0.0.0.0:0", VASTPROXY_API_KEYS="from-the-environment")
    assert proxy.url.startswith("http://0.0.0.0:")
    for known in (key, "from-the-environment"):
        assert (await proxy.ask("GET", "/v1/models", bearer(known))).status == 200
    assert (await proxy.ask("GET", ADMIN_PAGE, bearer("from-the-environment"))).status == 200
    await proxy.__aexit__(None, None, None)
    await keys(tmp_path, "revoke", "web", "--yes")
    proxy = await scene.serve(LISTEN_ADDR="0.0.0.0:0")
    for headers in ({}, bearer(key)):
        assert (await proxy.ask("GET", "/v1/models", headers)).status == 401


async def test_a_broken_file_at_the_start_is_one_line(scene: Scene, tmp_path: Path) -> None:
    """Nobody knows then whom to let in."""
    file = tmp_path / "state" / "keys.json"
    file.parent.mkdir()
    file.write_text("{}]")
    proxy = ProxyProcess(tmp_path, api=scene.api, key_path=scene.key_path)
    assert await proxy.run() == 2
    assert proxy.stderr.startswith(f"vastproxy: the keys in {file} cannot be used: ")
    assert proxy.stderr.count("\n") == 1

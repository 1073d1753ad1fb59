"""The right engine and always an answer, with real parts: `vastproxy serve`, OpenSSH's sshd, several engines."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.engines import FakeEngine
from tests.helpers.proxy_process import ProxyProcess
from tests.helpers.raw import Answer, Client
from tests.helpers.scene import CHAT, Scene, chat, open_scene, served_by

ODD_ID = "a/b+c=1@x:y"


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as scene:
        yield scene


async def serve(scene: Scene, *, each: int | None = None, wait_s: float = 30.0, **env: str) -> ProxyProcess:
    """Start the proxy. `each`: requests that an engine takes at a time. A request waits for longer than anything here
    takes, unless `wait_s` says otherwise."""
    if each is not None:
        env["VASTPROXY_ADMISSION__MAX_IN_FLIGHT_PER_BACKEND"] = str(each)
    return await scene.serve(healthy=None, **{"VASTPROXY_QUEUE__MAX_WAIT_S": str(wait_s), **env})


def asking(model: str = "m", **options: Any) -> Any:
    """Headers and body of a chat request for a model, as of `chat`."""
    request = chat(**options)
    return {**request, "body": json.dumps({**json.loads(request["body"]), "model": model}).encode()}


async def ask(proxy: ProxyProcess, model: str = "m", **options: Any) -> Answer:
    return await proxy.ask("POST", CHAT, **asking(model, **options))


async def requests(proxy: ProxyProcess) -> list[dict[str, Any]]:
    """The stories of the last requests, the newest first."""
    rows: list[dict[str, Any]] = json.loads((await proxy.ask("GET", "/vastproxy/v1/requests")).body)[
        "requests"
    ]
    return rows


async def until_waiting(proxy: ProxyProcess, count: int) -> None:
    """Until so many requests wait for a place."""
    rows: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(10):
            while [row["state"] for row in rows].count("waiting") != count:
                await asyncio.sleep(0.02)
                rows = await requests(proxy)
    except TimeoutError:
        raise AssertionError(f"{count} never waited; last {json.dumps(rows, indent=1)}") from None


async def command(scene: Scene, *arguments: str) -> tuple[int, str]:
    """Exit code and output of the program, run with these arguments."""
    process = ProxyProcess(scene.directory, arguments=arguments)
    code = await process.run()
    assert "Traceback" not in process.output, process.output
    return code, process.output


def asked_for(engine: FakeEngine) -> Counter[str]:
    """The models by which an engine was asked to chat."""
    return Counter(request.json["model"] for request in engine.requests if request.path == CHAT)


# ── models ─────────────────────────────────────────────────────────────────────────────────────


async def test_each_model_is_asked_of_an_engine_that_has_it(scene: Scene) -> None:
    """Two instances, one of them with two engines; by name, in another case, by alias; the unknown one is refused."""
    await scene.rent(101, 102, models={101: ("alpha", "both"), 102: ("beta", "both")})
    first, second = (scene.machines[id] for id in (101, 102))
    async with FakeEngine("vllm", models=("gamma",), token=second.token) as beside:
        arguments = [*second.row["extra_env"], ["SGLANG_ARGS", f"--host 127.0.0.1 --port {beside.port}"]]
        scene.api.set_instances([first.row, {**second.row, "extra_env": arguments}])
        aliases = {"quick": ["gamma"], "any": ["alpha", "beta"], "none": ["omega"]}
        proxy = await serve(scene, VASTPROXY_ROUTING__ALIASES=json.dumps(aliases))
        await proxy.wait_backend(102, lambda row: len(row["engines"]) == 2)

        for model, instance in (
            ("alpha", 101),
            ("beta", 102),
            ("gamma", 102),
            ("ALPHA", 101),
            ("quick", 102),
        ):
            assert served_by(await ask(proxy, model)) == instance, model
        assert {served_by(await ask(proxy, "both")) for _ in range(4)} == {101, 102}
        assert {served_by(await ask(proxy, "any")) for _ in range(4)} == {101, 102}
        assert set(asked_for(first.engine)) == {"alpha", "both"}
        assert set(asked_for(second.engine)) == {"beta", "both"}
        assert asked_for(beside) == {"gamma": 2}

        await check_unknown(proxy)
        models = {row["id"]: row for row in json.loads((await proxy.ask("GET", "/v1/models")).body)["data"]}
        counts = {name: row["backends"] for name, row in models.items()}
        assert counts == {"alpha": 1, "any": 2, "beta": 1, "both": 2, "gamma": 1, "quick": 1}
        assert models["any"]["alias_of"] == ["alpha", "beta"]
        assert models["both"]["instances"] == [101, 102]

        async with Client(proxy.port) as client:  # the model behind a prompt that comes in pieces
            fields = {"content-type": "application/json", "transfer-encoding": "chunked"}
            await client.send("POST", CHAT, fields)
            for piece in (
                b'{"messages": [{"role": "user", "content": "',
                b"x" * 300_000,
                b'"}], "model": "bet',
            ):
                await client.send_data(piece)
            await client.send_data(b'a", "max_tokens": 1}', last=True)
            assert served_by(await client.rest(await client.head())) == 102


async def check_unknown(proxy: ProxyProcess) -> None:
    for name in ("omega", "none"):
        refused = await ask(proxy, name)
        error = json.loads(refused.body)["error"]
        assert (refused.status, error["code"], error["param"]) == (404, "model_not_found", "model")
        assert (
            f"'{name}' is not served here. Served: alpha, any, beta, both, gamma, quick." in error["message"]
        )


# ── waiting ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [30])
async def test_everybody_is_answered_and_no_engine_has_more_than_it_takes(scene: Scene, count: int) -> None:
    """All ask at the same time; each engine takes one request at a time."""
    await scene.rent(101, 103)
    for machine in scene.machines.values():
        machine.engine.header_delay_s = 0.02
    proxy = await serve(scene, each=1)
    answers = await asyncio.gather(*(ask(proxy, tokens=1) for _ in range(count)))
    served = Counter(served_by(answer) for answer in answers)
    assert set(served) == {101, 103}
    assert {machine.engine.peak_active for machine in scene.machines.values()} == {1}
    rows = await requests(proxy)
    assert sum(row["queue_ms"] > 0 for row in rows) >= count // 2
    assert {row["state"] for row in rows} == {"done"}
    assert proxy.lines(" waited=")
    backends = await proxy.backends()
    assert {row["in_flight"] for row in backends.values()} == {0}


async def test_a_queue_that_takes_too_long_says_when_to_come_back(scene: Scene) -> None:
    """Who waits in vain gets 503 with Retry-After; who leaves the queue makes no difference; the running one ends."""
    await scene.rent(101)
    engine = scene.machines[101].engine
    engine.pause_after(0)
    proxy = await serve(scene, each=1, wait_s=4)  # long enough for one who waits to be seen and to leave
    running = asyncio.get_running_loop().create_task(ask(proxy))
    await asyncio.wait_for(engine.paused.wait(), 10)
    async with Client(proxy.port) as leaving:
        await leaving.send("POST", CHAT, **asking())
        await until_waiting(proxy, 1)
    refused = await ask(proxy)
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (503, "no_backend_available")
    assert int(refused.header("retry-after") or 0) >= 1
    engine.resume()
    assert served_by(await running) == 101
    assert engine.peak_active == 1
    assert asked_for(engine) == {"m": 1}
    assert Counter(row["status"] for row in await requests(proxy)) == {200: 1, 499: 1, 503: 1}


async def test_requests_outlive_the_host_that_they_wait_for(scene: Scene) -> None:
    """It dies while one is being answered and others wait; another host is rented: it serves them all."""
    await scene.rent(101)
    dying = scene.machines[101]
    dying.engine.pause_after(0)
    proxy = await serve(scene, each=1)
    loop = asyncio.get_running_loop()
    asked = [loop.create_task(ask(proxy)) for _ in range(6)]
    await asyncio.wait_for(dying.engine.paused.wait(), 10)
    await until_waiting(proxy, 5)
    await dying.stop_sshd()
    await proxy.wait_healthy(0)
    await until_waiting(proxy, 6)
    await scene.rent(102)
    assert Counter([served_by(await each) for each in asked]) == {102: 6}
    assert scene.machines[102].engine.peak_active == 1
    assert sorted(len(row["attempts"]) > 1 for row in await requests(proxy)) == [False] * 5 + [True]
    dying.engine.resume()


# ── drain and explain ──────────────────────────────────────────────────────────────────────────


async def test_drain_by_the_command_line_and_back(scene: Scene) -> None:
    """What runs ends whole, nothing new begins there, and a wait for that ends then; undone, it serves again."""
    await scene.rent(101, 102)
    proxy = await serve(scene)
    engine = scene.machines[101].engine
    engine.pause_after(2)
    async with Client(proxy.port) as client:
        await client.send("POST", CHAT, **asking(stream=True, tokens=4, pin=101))
        stream = await client.head()
        await asyncio.wait_for(engine.paused.wait(), 10)
        code, said = await command(scene, "drain", "101", proxy.url)
        assert (code, said) == (0, "instance 101 gets no new requests; 1 still runs\n")
        assert [served_by(await ask(proxy, pin=101)) for _ in range(4)] == [102] * 4
        assert (await proxy.backends())[101]["state"] == "draining"

        waiting = asyncio.get_running_loop().create_task(
            command(scene, "drain", "101", proxy.url, "--wait", "--json")
        )
        engine.resume()
        await client.rest(stream)
    assert stream.complete
    assert stream.body.endswith(b"data: [DONE]\n\n")
    code, said = await waiting
    assert (code, json.loads(said)["in_flight"], json.loads(said)["state"]) == (0, 0, "draining")

    code, said = await command(scene, "drain", "101", proxy.url, "--undo")
    assert code == 0
    await proxy.wait_backend(101, lambda row: row["state"] == "healthy")
    assert served_by(await ask(proxy, pin=101)) == 101
    code, said = await command(scene, "drain", "999", proxy.url)
    assert code == 1
    assert "serves no instance 999" in said


async def test_explain_tells_of_an_engine_that_refused(scene: Scene) -> None:
    """Each attempt with its reason and its end, for people and for programs; the log has it in one line."""
    await scene.rent(101, 102)
    scene.machines[101].engine.fail_status = 503
    proxy = await serve(scene)
    request = asking(pin=101)
    request["headers"]["x-request-id"] = ODD_ID
    assert served_by(await proxy.ask("POST", CHAT, **request)) == 102

    code, said = await command(scene, "explain", ODD_ID, proxy.url)
    assert code == 0
    assert f"200  POST {CHAT}  request {ODD_ID}" in said
    assert "tied to its place by header" in said
    one, two = said.index("  1. instance 101"), said.index("  2. instance 102")
    assert "refused" in said[one:two]
    assert "HTTP 503" in said[one:two]
    assert "chosen: " in said[one:two]
    assert "answered" in said[two:]

    code, said = await command(scene, "explain", ODD_ID, proxy.url, "--json")
    story = json.loads(said)
    assert [(each["instance"], each["outcome"]) for each in story["attempts"]] == [
        (101, "refused"),
        (102, "answered"),
    ]
    assert (story["model"], story["status"], story["state"]) == ("m", 200, "done")
    line = await proxy.says(f" {ODD_ID} POST ")
    assert " instance=102 via=direct status=200 " in line
    assert line.endswith(" tried=101:refused")
    bodies = [
        {key: value for key, value in each.json.items() if key != "rid"}
        for machine in scene.machines.values()
        for each in machine.engine.requests
        if each.path == CHAT
    ]
    assert bodies == [json.loads(request["body"])] * 2

    code, said = await command(scene, "explain", "nobody-had-it", proxy.url)
    assert code == 1
    assert "remembers no request nobody-had-it" in said

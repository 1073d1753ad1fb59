"""From the account to the engine and back, with real parts: `vastproxy serve`, OpenSSH's sshd, HTTP on all sides."""

import asyncio
import json
import logging
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.helpers.proxy_process import ProxyProcess
from tests.helpers.raw import Client
from tests.helpers.scene import CHAT, CLIENT_KEY, KINDS, Scene, ask, chat, open_scene, served_by
from tests.helpers.vastapi import Fault

logger = logging.getLogger(__name__)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as scene:
        yield scene


class Load:
    """Requests without a pause from several clients, each on a connection that it keeps."""

    def __init__(self, proxy: ProxyProcess, *, clients: int = 6) -> None:
        self._proxy = proxy
        self.clients = clients
        self._stopped = False
        self.done: list[tuple[float, float, int, int]] = []
        """(begun, ended, status, instance) of each request."""

    async def __aenter__(self) -> "Load":
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._client(), name="load") for _ in range(self.clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopped = True
        await asyncio.gather(*self._tasks)

    async def more(self, count: int) -> None:
        """Wait until that many more requests have ended."""
        target = len(self.done) + count
        async with asyncio.timeout(20):
            while len(self.done) < target:
                await asyncio.sleep(0.01)

    async def _client(self) -> None:
        while not self._stopped:
            async with Client(self._proxy.port) as client:
                while not self._stopped and await self._one(client):
                    pass

    async def _one(self, client: Client) -> bool:
        """One request. False when the connection cannot be used again."""
        began = time.monotonic()
        answer = await client.ask("POST", CHAT, **chat())
        # An answer that broke off counts as a failure of the proxy's kind.
        status = answer.status if answer.complete else 502
        self.done.append((began, time.monotonic(), status, int(answer.header("x-vastproxy-instance") or 0)))
        return answer.complete


async def until(condition: Callable[[], bool], *, limit_s: float = 10.0) -> None:
    """Look at the state of outside processes until the condition holds."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.02)


async def test_discovers_serves_in_turn_and_labels(scene: Scene) -> None:
    """All running instances serve within 15 s of the start, take turns, and carry the label in the account."""
    await scene.rent(*KINDS)
    # The account refuses a second call within a second, so the client must wait of its own accord.
    scene.api.account.limits.enabled = True
    began = time.monotonic()
    proxy = await scene.serve(VASTPROXY_VAST__MIN_INTERVAL_SCALE="1")
    logger.info("three healthy %.2f s after the start", time.monotonic() - began)

    turns = [served_by(await ask(proxy)) for _ in range(9)]
    assert turns[:3] == turns[3:6] == turns[6:]
    assert sorted(turns[:3]) == sorted(KINDS)

    await scene.api.until(lambda: set(scene.api.labels().values()) == {"proxied"})
    assert all(scene.api.label_writes(id) == ["proxied"] for id in KINDS)
    assert not proxy.lines("fewer calls")


async def test_health_and_backends_tell_what_there_is(scene: Scene) -> None:
    """/healthz counts the healthy and times the API; /vastproxy/v1/backends names GPUs, path, engine and models."""
    await scene.rent(*KINDS)
    proxy = await scene.serve()

    report = await proxy.health()
    assert report["status"] == "healthy"
    assert (report["backends"]["total"], report["backends"]["healthy"]) == (3, 3)
    assert report["vast_api"]["status"] == "healthy"
    assert 0 < report["vast_api"]["latency_ms"] < 15_000

    rows = {id: await proxy.wait_backend(id, lambda row: bool(row["gpus"] and row["models"])) for id in KINDS}
    assert {id: row["engine"] for id, row in rows.items()} == KINDS
    assert {row["path"] for row in rows.values()} == {"direct"}
    assert {id: row["port"] for id, row in rows.items()} == {
        id: machine.engine.port for id, machine in scene.machines.items()
    }
    assert {id: f"model-{id}" in row["models"] for id, row in rows.items()} == dict.fromkeys(KINDS, True)
    assert [len(rows[id]["gpus"]) for id in sorted(rows)] == [1, 8, 1]
    models = json.loads((await proxy.ask("GET", "/v1/models")).body)["data"]
    assert {f"model-{id}" for id in KINDS} <= {model["id"] for model in models}


async def test_a_machine_that_dies_costs_at_most_what_it_was_working_on(scene: Scene) -> None:
    """Under load, only requests in flight at the death of a machine fail; it loses its label and comes back."""
    await scene.rent(*KINDS)
    proxy = await scene.serve()
    await scene.api.until(lambda: scene.api.labels()[102] == "proxied")
    for machine in scene.machines.values():
        machine.engine.header_delay_s = 0.03
    async with Load(proxy) as load:
        await load.more(30)
        await scene.machines[102].stop_sshd()
        dead_at = time.monotonic()
        await load.more(60)
        await proxy.wait_healthy(2)
        failed = [one for one in load.done if one[2] != 200]
        logger.info("%d of %d clients' requests failed at the death: %s", len(failed), load.clients, failed)
        assert len(failed) <= load.clients, failed
        assert all(began <= dead_at for began, _, _, _ in failed), failed
        assert {instance for _, _, _, instance in failed} <= {102}
        assert {one[3] for one in load.done[-20:]} == {101, 103}
        await scene.api.until(lambda: scene.api.labels()[102] == "")

        await scene.machines[102].start_sshd()
        await proxy.wait_healthy(3)
        before = len(load.done)
        await load.more(30)
        assert Counter(one[3] for one in load.done[before:])[102] >= 5
        assert {one[2] for one in load.done[before:]} == {200}
    await scene.api.until(lambda: scene.api.labels()[102] == "proxied")


async def test_with_one_path_it_falls_back_to_the_relay_and_leaves_it_when_the_direct_path_opens(
    scene: Scene,
) -> None:
    """With the direct address closed the relay serves; the change to direct breaks no running stream."""
    await scene.rent(101)
    machine = scene.machines[101]
    await machine.stop_sshd()
    await machine.start_relay()
    scene.show()
    proxy = await scene.serve(VASTPROXY_TUNNELS__PATHS="one")
    assert (await proxy.backends())[101]["path"] == "relay"
    assert served_by(await ask(proxy)) == 101

    machine.engine.pause_after(3)
    async with Client(proxy.port) as client:
        await client.send("POST", CHAT, **chat(stream=True, tokens=6))
        stream = await client.head()
        await asyncio.wait_for(machine.engine.paused.wait(), 10)
        await machine.start_sshd()
        row = await proxy.wait_backend(101, lambda row: row["path"] == "direct")
        assert row["state"] == "healthy"
        assert machine.relay.children(), "the running stream needs the relay"
        machine.engine.resume()
        await client.rest(stream)
    assert stream.complete
    assert stream.body.endswith(b"data: [DONE]\n\n")
    assert stream.body.count(b'"content": "t') == 6
    await until(lambda: not machine.relay.children())
    assert served_by(await ask(proxy)) == 101


async def test_losing_the_direct_path_is_a_non_event(scene: Scene) -> None:
    """The relay takes over in the same moment: the backend stays in the pool, what is asked meanwhile is answered, and
    the direct path is taken again when it is back."""
    await scene.rent(101)
    machine = scene.machines[101]
    await machine.start_relay()
    scene.show()
    proxy = await scene.serve()
    row = await proxy.wait_backend(101, lambda row: [way["state"] for way in row["paths"]] == ["up", "up"])
    assert row["path"] == "direct"
    await machine.stop_sshd()
    answers = [await ask(proxy) for _ in range(20)]
    assert {served_by(answer) for answer in answers} == {101}
    row = await proxy.wait_backend(101, lambda row: row["path"] == "relay")
    assert row["state"] == "healthy"
    await machine.start_sshd()
    await proxy.wait_backend(101, lambda row: row["path"] == "direct")
    assert served_by(await ask(proxy)) == 101
    assert proxy.lines("unhealthy") == []


async def test_a_changed_host_key_puts_one_backend_out_loudly(scene: Scene) -> None:
    """Somebody else may answer at that address: no login, a warning that names the instance, others serve."""
    await scene.rent(101, 102)
    proxy = await scene.serve()
    machine = scene.machines[101]
    await machine.stop_sshd()
    machine.sshd.new_host_key()
    await machine.start_sshd()
    line = await proxy.says("HOST KEY CHANGED")
    assert "instance 101" in line
    assert " warning " in line or " error " in line, line
    logins = machine.sshd.log.count("Accepted publickey")
    row = await proxy.wait_backend(101, lambda row: "HOST KEY CHANGED" in (row["error"] or ""))
    assert row["state"] == "unhealthy"
    assert [served_by(await ask(proxy)) for _ in range(4)] == [102] * 4
    assert (await proxy.health())["status"] == "degraded"
    assert machine.sshd.log.count("Accepted publickey") == logins


async def test_a_stopped_instance_leaves_at_once_and_a_missing_one_after_two_lists(scene: Scene) -> None:
    """One list that shows it stopped is enough; absence has to be seen twice."""
    await scene.rent(*KINDS)
    proxy = await scene.serve()
    faults, seen = scene.api.faults, len(scene.api.lists)
    faults.always(Fault.HANG, method="GET", path="/api/v1/instances/")

    async def next_list() -> None:
        """One more list is asked for, so those before it have been dealt with; it is answered when released."""
        nonlocal seen
        await until(lambda: faults.hanging == 1 and len(scene.api.lists) > seen)
        seen = len(scene.api.lists)

    await next_list()
    scene.api.change(101, actual_status="exited", intended_status="stopped", cur_state="stopped")
    faults.release()
    await proxy.says("[backend=101] removed")
    assert 101 not in await proxy.backends()

    await next_list()
    scene.api.remove(102)
    faults.release()
    await next_list()
    assert served_by(await ask(proxy, pin=102)) == 102
    assert not proxy.lines("[backend=102] removed")
    faults.release()
    await proxy.says("[backend=102] removed: no longer in the account")
    faults.clear()
    assert set(await proxy.backends()) == {103}
    assert [served_by(await ask(proxy)) for _ in range(3)] == [103] * 3


async def test_a_label_of_somebody_else_is_left_alone(scene: Scene) -> None:
    """It is neither overwritten while the instance serves nor cleared at the end; ours is cleared."""
    await scene.rent(101, 102)
    scene.api.change(101, label="mine")
    proxy = await scene.serve()
    await scene.api.until(lambda: scene.api.labels()[102] == "proxied")
    assert {served_by(await ask(proxy)) for _ in range(2)} == {101, 102}
    await proxy.__aexit__(None, None, None)
    assert scene.api.labels() == {101: "mine", 102: ""}
    assert scene.api.label_writes(101) == []
    assert scene.api.label_writes(102) == ["proxied", ""]


async def test_the_label_none_writes_nothing(scene: Scene) -> None:
    """VASTPROXY_LABEL=none: no call that changes anything, from start to end."""
    await scene.rent(101)
    proxy = await scene.serve(VASTPROXY_LABEL="none")
    lists = len(scene.api.lists)
    await scene.api.until(lambda: len(scene.api.lists) >= lists + 2)
    await proxy.__aexit__(None, None, None)
    assert {request.method for request in scene.api.requests} == {"GET"}


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_may_not_write_serves_all_the_same(scene: Scene, status: int) -> None:
    """One attempt, one warning that says what to do, and everything is served."""
    await scene.rent(101, 102)
    scene.api.refuse_writes = status
    proxy = await scene.serve()
    line = await proxy.says("may not write labels")
    assert " warning " in line
    lists = len(scene.api.lists)
    await scene.api.until(lambda: len(scene.api.lists) >= lists + 2)
    assert {served_by(await ask(proxy)) for _ in range(2)} == {101, 102}
    await proxy.__aexit__(None, None, None)
    assert len(scene.api.label_writes()) == 1
    assert len(proxy.lines("may not write labels")) == 1


async def test_engines_get_the_instances_token_and_nobody_gets_another_secret(scene: Scene) -> None:
    """Probes and proxied requests carry the jupyter_token; the client's key stops at the proxy; logs hold none."""
    await scene.rent(101, 102)
    proxy = await scene.serve(VASTPROXY_LOGGING__LEVEL="debug")
    answers = [await ask(proxy, pin=id) for id in (101, 102)]
    assert [served_by(answer) for answer in answers] == [101, 102]
    shown = (await proxy.ask("GET", "/vastproxy/v1/backends")).body.decode()
    for machine in scene.machines.values():
        for path in ("/health", CHAT):
            asked = [request for request in machine.engine.requests if request.path == path]
            assert {request.header("authorization") for request in asked} == {f"Bearer {machine.token}"}
        received = [value for request in machine.engine.requests for _, value in request.headers]
        assert not any(CLIENT_KEY in value for value in received)
        assert not any("x-vastproxy-instance" in dict(request.headers) for request in machine.engine.requests)
        assert machine.token not in shown
    assert {request.headers["authorization"] for request in scene.api.requests} == {"Bearer test-key"}
    proxy.check_output()


async def test_no_label_outlives_a_proxy_that_ends_while_it_writes_them(scene: Scene) -> None:
    """SIGTERM in the middle of labelling: what was written and what was under way is cleared, each once."""
    await scene.rent(*KINDS)
    scene.api.faults.next(Fault.HANG, method="PUT")
    proxy = await scene.serve()
    await scene.api.until(lambda: len(scene.api.label_writes()) == 1)
    proxy.signal(signal.SIGTERM)
    await proxy.says("clearing labels")
    scene.api.faults.release()
    assert await proxy.wait() == 0
    assert set(scene.api.labels().values()) == {""}
    writes = scene.api.label_writes()
    assert writes.count("") == writes.count("proxied") > 0

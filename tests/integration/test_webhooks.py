"""Events over real HTTP: from the signature to the backend that is given nothing more."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.helpers.engines import FakeEngine
from tests.helpers.proxying import Proxying
from tests.helpers.raw import Answer, ask
from tests.helpers.scene import Scene, open_scene, served_by
from tests.helpers.scene import ask as ask_scene
from vastproxy.services.backends.state import Event, State
from vastproxy.services.events import FleetEvent, StateChanged
from vastproxy.settings.model import FleetSettings, ServerSettings
from vastproxy.settings.webhooks import WebhookSettings
from vastproxy.vastai.handlers.webhooks import MAX_BODY_BYTES, sign

SECRET = "s3cret-of-the-webhook"
TOKEN = "t0ken-of-instances"
PATH = "/webhooks/vastai"


def signed(event: dict[str, Any], *, secret: str = SECRET) -> dict[str, Any]:
    """Headers and body of a signed event."""
    body, now = json.dumps(event).encode(), int(time.time())
    headers = {"x-vast-timestamp": str(now), "x-vast-signature-256": sign(secret, now, body)}
    return {"headers": headers, "body": body}


def reported(event: dict[str, Any], *, token: str = TOKEN) -> dict[str, Any]:
    """Headers and body of an event that an instance sends."""
    return {"headers": {"authorization": f"Bearer {token}"}, "body": json.dumps(event).encode()}


@pytest.fixture
async def proxy() -> AsyncIterator[Proxying]:
    """Two engines; inbound keys, which events do not need; probes so seldom that none comes unless asked for."""
    async with Proxying(
        [FakeEngine("vllm"), FakeEngine("vllm")],
        server=ServerSettings(api_keys=(SecretStr("inbound"),)),
        fleet=FleetSettings(label="none", probe_interval_s=60.0),
        webhooks=WebhookSettings(secret=SecretStr(SECRET), token=SecretStr(TOKEN)),
    ) as proxying:
        yield proxying


class Changes:
    """The changes of state from now on."""

    def __init__(self, proxy: Proxying) -> None:
        self.seen: list[tuple[int, State, Event]] = []
        self._news = asyncio.Event()
        proxy.fleet.events.subscribe(self._listen)

    def _listen(self, event: FleetEvent) -> None:
        if isinstance(event, StateChanged):
            self.seen.append((event.instance_id, event.after, event.cause))
            self._news.set()

    async def wait(self, count: int) -> list[tuple[int, State, Event]]:
        async with asyncio.timeout(10):
            while len(self.seen) < count:
                self._news.clear()
                await self._news.wait()
        return self.seen


def code_of(answer: Answer) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["error"]["code"]


async def test_a_suspect_is_probed_at_once_and_serves_again_if_it_answers(proxy: Proxying) -> None:
    changes = Changes(proxy)
    answer = await ask(proxy.port, "POST", PATH, **signed({"notif_type": "outbid", "instance_id": 1}))
    assert (answer.status, json.loads(answer.body)["verdict"]) == (200, "suspect")
    assert await changes.wait(2) == [
        (1, State.UNHEALTHY, Event.SUSPECTED),
        (1, State.HEALTHY, Event.SERVING),
    ]


async def test_a_suspect_that_does_not_answer_is_given_nothing(proxy: Proxying) -> None:
    """One failed probe would not take it out by itself."""
    changes = Changes(proxy)
    proxy.engines[0].fail_health()
    answer = await ask(proxy.port, "POST", PATH, **reported({"event": "stopping", "container_id": "1"}))
    assert answer.status == 200
    await proxy.engines[0].wait_for_requests(2, path="/health")
    for _ in range(4):
        served = await ask(proxy.port, "GET", "/echo", headers={"authorization": "Bearer inbound"})
        assert served.header("x-vastproxy-instance") == "2"
    assert changes.seen == [(1, State.UNHEALTHY, Event.SUSPECTED)]
    proxy.engines[0].healthy()
    await ask(proxy.port, "POST", PATH, **reported({"event": "up", "container_id": "1"}))
    assert (await changes.wait(2))[-1] == (1, State.HEALTHY, Event.SERVING)


async def test_who_has_neither_signature_nor_token_is_refused(proxy: Proxying) -> None:
    event = {"notif_type": "outbid", "instance_id": 1}
    changes = Changes(proxy)
    assert code_of(await ask(proxy.port, "POST", PATH, body=b"{}")) == (401, "invalid_signature")
    assert code_of(await ask(proxy.port, "POST", PATH, **signed(event, secret="x"))) == (
        401,
        "invalid_signature",
    )
    assert code_of(await ask(proxy.port, "POST", PATH, **reported(event, token="inbound"))) == (
        401,
        "invalid_signature",
    )
    assert code_of(await ask(proxy.port, "POST", PATH, **reported([]))) == (400, "invalid_event")  # type: ignore[arg-type]
    assert (await ask(proxy.port, "GET", PATH)).status == 405
    assert (await ask(proxy.port, "POST", PATH + "/", **signed(event))).status == 401, (
        "only this path needs no key"
    )
    assert changes.seen == []


async def test_a_large_body_is_refused(proxy: Proxying) -> None:
    event = {"notif_type": "outbid", "instance_id": 1, "x": "x" * MAX_BODY_BYTES}
    assert code_of(await ask(proxy.port, "POST", PATH, **signed(event))) == (413, "request_too_large")


async def test_a_proxy_without_secrets_takes_no_events() -> None:
    async with Proxying([FakeEngine("vllm")]) as proxy:
        answer = await ask(proxy.port, "POST", PATH, **signed({}))
        assert code_of(answer) == (404, "webhooks_off")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as scene:
        yield scene


async def test_an_event_makes_the_account_be_read_at_once(scene: Scene) -> None:
    """An instance that was stopped is gone long before the next poll, and its end is in no log as a secret is."""
    await scene.rent(101, 102)
    proxy = await scene.serve(
        VASTPROXY_LABEL="none",
        VASTPROXY_FLEET__POLL_INTERVAL_S="600",
        VASTPROXY_WEBHOOKS__SECRET=SECRET,
    )
    lists = len(scene.api.lists)
    scene.api.change(101, actual_status="exited", intended_status="stopped", cur_state="stopped")
    answer = await proxy.ask("POST", PATH, **signed({"notif_type": "instance_stopped", "message": "?"}))
    assert (answer.status, json.loads(answer.body)["verdict"]) == (200, "poll")
    await proxy.says("[backend=101] removed")
    assert len(scene.api.lists) == lists + 1
    assert [served_by(await ask_scene(proxy)) for _ in range(3)] == [102] * 3
    assert SECRET not in proxy.output


async def test_the_command_tries_a_running_proxy(scene: Scene, tmp_path: Path) -> None:
    await scene.rent(101)
    proxy = await scene.serve(VASTPROXY_LABEL="none", VASTPROXY_WEBHOOKS__SECRET=SECRET)

    async def try_out(secret: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "vastproxy", "webhooks", "test", f"http://127.0.0.1:{proxy.port}"),
            env={"HOME": str(tmp_path), "VASTPROXY_WEBHOOKS__SECRET": secret, "PATH": "/usr/bin:/bin"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 30)
        return process.returncode, output.decode()

    code, output = await try_out(SECRET)
    assert (code, "took the test event" in output) == (0, True), output
    code, output = await try_out("another")
    assert code == 1
    assert "refuses the test event (HTTP 401): The signature is missing or wrong" in output
    await proxy.says("event: vast.ai says: webhook_test → nothing")

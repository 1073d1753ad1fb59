"""`/metrics` of a running proxy: what clients, engines and the account did is in it, as Prometheus reads it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.engines import FakeEngine
from tests.helpers.proxy_process import ProxyProcess
from tests.helpers.proxying import Proxying
from tests.helpers.raw import Answer, Client, ask
from tests.helpers.scene import CHAT, CLIENT_KEY, KINDS, chat, open_scene
from tests.helpers.scraped import Scraped
from vastproxy.services.metrics.exposition import Form

CHATS = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "vastproxy"}


@pytest.fixture
async def proxying() -> AsyncIterator[Proxying]:
    async with Proxying([FakeEngine("sglang"), FakeEngine("vllm")]) as proxying:
        yield proxying


async def scrape(port: int, form: Form = Form.TEXT, **headers: str) -> Scraped:
    answer = await ask(port, "GET", "/metrics", headers={"accept": form.value.partition(";")[0], **headers})
    assert answer.status == 200, answer.body
    assert answer.header("content-type") == form.value
    return Scraped(answer.body.decode(), form)


def total(found: Scraped, name: str, **labels: str) -> float:
    """The sum of all samples that have these labels, whatever others."""
    return sum(value for has, value in found.all(name).items() if labels.items() <= dict(has).items())


@pytest.mark.parametrize("form", Form)
async def test_requests_are_counted_with_their_tokens(proxying: Proxying, form: Form) -> None:
    """Whole answers tell their tokens; a stream tells when it began and how fast it went on."""
    for stream in (False, True, True):
        answer = await ask(proxying.port, "POST", CHAT, **chat(stream=stream, tokens=4))
        assert answer.status == 200
        assert answer.complete
    found = await scrape(proxying.port, form)
    assert total(found, "vastproxy_requests_total", operation="chat", code="200") == 3
    assert total(found, "gen_ai_server_request_duration_seconds_count", **CHATS) == 3
    assert total(found, "gen_ai_server_time_to_first_token_seconds_count", **CHATS) == 2
    assert total(found, "gen_ai_client_token_usage_sum", gen_ai_token_type="output") >= 4
    assert total(found, "vastproxy_backend_time_to_first_token_seconds_count") == 2
    assert total(found, "vastproxy_backend_requests_total") == 3
    assert found["vastproxy_sent_bytes_total"] > found["vastproxy_received_bytes_total"] > 0
    assert found["vastproxy_requests_in_flight"] == 0


async def test_errors_are_counted_by_kind(proxying: Proxying) -> None:
    await ask(proxying.port, "POST", "/flush_cache")
    found = await scrape(proxying.port)
    assert found.get("vastproxy_request_errors_total", kind="path_not_allowed") == 1
    assert total(found, "vastproxy_requests_total", operation="other", code="403") == 1


async def test_what_is_no_request_is_counted_too(proxying: Proxying) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxying.port)
    writer.write(b"nonsense\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await writer.wait_closed()
    found = await scrape(proxying.port)
    assert found.get("vastproxy_requests_total", operation="other", code="400") == 1
    assert found.get("vastproxy_request_errors_total", kind="malformed_request") == 1


async def test_a_client_that_leaves_is_no_error_of_a_backend(proxying: Proxying) -> None:
    async with Client(proxying.port) as client:
        await client.send("POST", CHAT, **chat(stream=True, tokens=1_000_000))
        await client.head()
        await client.piece()
        found = await scrape(proxying.port)
        assert found["vastproxy_requests_in_flight"] == 1
    async with asyncio.timeout(10):
        while (found := await scrape(proxying.port))["vastproxy_requests_in_flight"]:
            await asyncio.sleep(0.01)
    assert found.get("vastproxy_request_errors_total", kind="client_left") == 1
    assert total(found, "vastproxy_backend_failures_total") == 0


async def test_backends_come_and_go(proxying: Proxying) -> None:
    """An instance that is gone leaves no sample of its own."""
    for pin in (1, 2):
        await ask(proxying.port, "POST", CHAT, **chat(pin=pin))
    found = await scrape(proxying.port)
    assert found.get("vastproxy_backends", state="healthy") == 2
    assert found.label_values("vastproxy_backend_up", "instance_id") == {"1", "2"}
    assert found.get("vastproxy_backend_output_tokens_total", instance_id="1") is not None
    for _ in range(2):
        proxying.see([2])
    found = await scrape(proxying.port)
    for name in found.names:
        assert found.label_values(name, "instance_id") <= {"", "2"}, name
    assert found.get("vastproxy_backend_state_changes_total", state="removing") == 1
    assert total(found, "vastproxy_requests_total", operation="chat", code="200") == 2


async def page(proxy: ProxyProcess, key: str | None = None) -> Answer:
    headers = {"accept": "text/plain"} | ({} if key is None else {"authorization": f"Bearer {key}"})
    return await proxy.ask("GET", "/metrics", headers=headers)


async def test_a_served_fleet_is_told_and_no_secret_with_it(tmp_path: Path) -> None:
    """Real instances: SSH, GPUs and the account. A key is asked for where there are keys, and is in no sample."""
    async with open_scene(tmp_path) as scene:
        await scene.rent(*KINDS)
        proxy = await scene.serve(VASTPROXY_API_KEYS=CLIENT_KEY)
        assert (await page(proxy)).status == 401
        assert (await page(proxy, "another")).status == 401
        request = chat()
        request["body"] = request["body"].replace(b'"m"', b'"model-101"')
        assert (await proxy.ask("POST", CHAT, **request)).status == 200
        async with asyncio.timeout(15):
            while (answer := await page(proxy, CLIENT_KEY)).status == 200:
                text = answer.body.decode()
                found = Scraped(text)
                if found.label_values("vastproxy_gpu_temperature_celsius", "instance_id") == {
                    "101",
                    "102",
                    "103",
                }:
                    break
                await asyncio.sleep(0.05)
        assert len(found.all("vastproxy_gpu_temperature_celsius")) == 10
        assert found.get("vastproxy_backends", state="healthy") == 3
        assert total(found, "vastproxy_tunnel_up", path="direct") == 3
        assert found["vastproxy_vast_api_up"] == 1
        assert total(found, "vastproxy_vast_api_call_duration_seconds_count", operation="list_instances") >= 1
        assert found["vastproxy_account_instances"] == 3
        assert found["process_resident_memory_bytes"] > 0
        for secret in (
            CLIENT_KEY,
            scene.api.account.api_key,
            *(one.token for one in scene.machines.values()),
        ):
            assert secret not in text
        for word in json.loads(chat()["body"])["messages"][0].values():
            assert f'"{word}"' not in text


async def test_it_can_be_switched_off(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        proxy = await scene.serve(VASTPROXY_METRICS__ENABLED="false")
        assert (await page(proxy)).status == 404

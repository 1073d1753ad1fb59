"""The simulated REST API over HTTP: shapes, keys, limits, faults."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.helpers.raw import Answer, ask
from vastproxy.simulator.contract import Phase
from vastproxy.simulator.faults import Fault
from vastproxy.simulator.simulation import Simulation

V1, V0 = "/api/v1/instances/", "/api/v0/instances/"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI someone@somewhere"


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    async with Simulation(instances=0, rate_limits=False) as simulation:
        yield simulation


async def call(
    sim: Simulation, method: str, path: str, body: Any = None, *, key: str | None = "", query: Any = None
) -> Answer:
    headers = {} if key is None else {"authorization": f"Bearer {key or sim.api_key}"}
    raw = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    target = f"{path}?{urlencode(query)}" if query else path
    return await ask(urlsplit(sim.url).port or 0, method, target, headers=headers, body=raw)


async def answer(sim: Simulation, method: str, path: str, body: Any = None, **options: Any) -> Any:
    got = await call(sim, method, path, body, **options)
    assert got.status == 200, got
    return json.loads(got.body)


async def refusal(
    sim: Simulation, method: str, path: str, body: Any = None, **options: Any
) -> tuple[int, str]:
    got = await call(sim, method, path, body, **options)
    error = json.loads(got.body)
    assert error["success"] is False
    assert error["msg"]
    return got.status, error["error"]


async def test_lists(sim: Simulation) -> None:
    """The new list pages; the old one comes whole; both hold the same rows."""
    for i in range(30):
        sim.account.add(label="a" if i % 2 else None)
    first = await answer(sim, "GET", V1)
    second = await answer(sim, "GET", V1, query={"after_token": first["next_token"], "limit": 25})
    assert (first["instances_found"], second["instances_found"], second["next_token"]) == (25, 5, None)
    assert first["label_counts"] == {"": 15, "a": 15}
    whole = await answer(sim, "GET", V0)
    assert whole["instances_found"] == 30
    ids = [row["id"] for row in first["instances"] + second["instances"]]
    assert ids == [row["id"] for row in whole["instances"]]
    assert await refusal(sim, "GET", V1, query={"after_token": "x"}) == (400, "invalid_token")


async def test_show_update_destroy(sim: Simulation) -> None:
    contract = sim.account.add()
    path = f"{V0}{contract.id}/"
    assert (await answer(sim, "GET", path, query={"owner": "me"}))["instances"]["id"] == contract.id
    assert await answer(sim, "PUT", path, {"label": "x", "state": "stopped"}) == {"success": True}
    assert (contract.label, contract.phase) == ("x", Phase.STOPPED)
    sim.account.gpus_free = False
    assert (await answer(sim, "PUT", path, {"state": "running"}))["error"] == "resources_unavailable"
    sim.account.gpus_free = True
    assert await answer(sim, "PUT", V0, {"state": "running", "ids": [contract.id]}) == {"success": True}
    assert contract.phase is Phase.RUNNING
    for verb in ("reboot", "recycle"):
        assert await answer(sim, "PUT", f"{V0}{verb}/{contract.id}/", {}) == {"success": True}
    assert await answer(sim, "PUT", f"{V0}bid_price/{contract.id}/", {"client_id": "me", "price": 0.5})
    assert await answer(sim, "DELETE", path, {}) == {"success": True}
    assert await answer(sim, "GET", path) == {"instances": None}
    assert await refusal(sim, "DELETE", path, {}) == (404, "no_such_instance")
    other = sim.account.add()
    assert await answer(sim, "DELETE", V0, {"instance_ids": [other.id]}) == {"success": True}
    assert sim.account.contracts == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "{id}/", {}),
        ("PUT", "{id}/", b"{"),
        ("PUT", "{id}/", []),
        ("PUT", "", {"state": "running"}),
        ("DELETE", "", {"instance_ids": ["x"]}),
        ("PUT", "request_logs/{id}/", {"tail": "many"}),
    ],
)
async def test_bad_bodies_are_400(sim: Simulation, method: str, path: str, body: Any) -> None:
    contract = sim.account.add()
    assert await refusal(sim, method, V0 + path.format(id=contract.id), body) == (400, "invalid_args")


async def test_keys_and_the_rest(sim: Simulation) -> None:
    contract = sim.account.add()
    created = await answer(sim, "POST", "/api/v0/ssh/", {"ssh_key": KEY})
    assert created["key"]["public_key"] == KEY
    listed = await answer(sim, "GET", "/api/v0/ssh/")
    assert [row["key"] for row in listed][-1] == KEY
    mine = f"{V0}{contract.id}/ssh/"
    assert await answer(sim, "POST", mine, {"ssh_key": KEY}) == {"success": True}
    attached = json.loads((await answer(sim, "GET", mine))["ssh_keys"])
    assert attached[-1]["public_key"] == KEY
    assert await answer(sim, "DELETE", f"{mine}{attached[-1]['id']}/") == {"success": True}
    assert await refusal(sim, "POST", mine, {}) == (400, "invalid_args")
    for path in ("/api/v0/users/current", "/api/v0/users/current/"):
        assert (await answer(sim, "GET", path))["credit"] > 0
    assert "RTX 4090" in (await answer(sim, "GET", "/api/v0/gpu_names/unique/", key=None))["gpu_names"]
    assert (await answer(sim, "GET", f"{V0}filters/"))["filters"][0]["gpu_name"] == "RTX 4090"
    offers = (await answer(sim, "POST", "/api/v0/bundles/", {"limit": 2}))["offers"]
    assert len(offers) == 2


async def test_logs_come_from_an_address_without_a_key(sim: Simulation) -> None:
    contract = sim.account.add()
    contract.log.append("hello")
    url = (await answer(sim, "PUT", f"{V0}request_logs/{contract.id}/", {"tail": "5"}))["result_url"]
    assert url.startswith("http://proxy.test/results/")
    path = urlsplit(url).path
    assert (await call(sim, "GET", path, key=None)).status == 404
    assert (await call(sim, "GET", path, key=None)).body == b"hello\n"


async def test_who_may_ask(sim: Simulation) -> None:
    assert await refusal(sim, "GET", V1, key=None) == (403, "auth_error")
    assert await refusal(sim, "GET", V1, key="wrong") == (401, "auth_error")
    sim.account.bad_key_status = 404
    assert await refusal(sim, "GET", V1, key="wrong") == (404, "auth_error")
    assert await answer(sim, "GET", V1, key=None, query={"api_key": sim.api_key})
    assert await refusal(sim, "GET", "/api/v0/nonsense/") == (404, "not_found")
    assert await refusal(sim, "POST", V1) == (405, "not_found")
    assert (await call(sim, "GET", V1.rstrip("/"))).status == 404


@pytest.fixture
async def timeless() -> AsyncIterator[Simulation]:
    """One whose clock stands still: however long calls take, they come too soon."""
    async with Simulation(instances=0, rate_limits=False, clock=lambda: 1_800_000_000.0) as simulation:
        yield simulation


async def test_limits_and_their_shapes(timeless: Simulation) -> None:
    """Text for lists, `detail` for most, `rate_limit_exceeded` for destroy; Retry-After only when switched on."""
    sim = timeless
    contract, other = sim.account.add(), sim.account.add()
    sim.account.limits.enabled = True
    await answer(sim, "GET", V1)
    limited = await call(sim, "GET", V1)
    assert (limited.status, limited.body) == (429, b"API requests too frequent: endpoint threshold=1.0")
    assert limited.header("retry-after") is None
    await answer(sim, "GET", f"{V0}{contract.id}/")
    sim.account.limits.retry_after = True
    limited = await call(sim, "GET", f"{V0}{other.id}/")
    assert json.loads(limited.body) == {"detail": "API requests too frequent endpoint threshold=2.0"}
    assert 0 < float(limited.header("retry-after") or 0) <= 2.01
    await answer(sim, "DELETE", f"{V0}{contract.id}/", {})
    assert await refusal(sim, "DELETE", f"{V0}{other.id}/", {}) == (429, "rate_limit_exceeded")


@pytest.mark.parametrize(
    ("fault", "status", "piece"),
    [
        (Fault.RATE_LIMIT_TEXT, 429, b"API requests too frequent: endpoint"),
        (Fault.RATE_LIMIT_DETAIL, 429, b'{"detail":'),
        (Fault.RATE_LIMIT_JSON, 429, b"rate_limit_exceeded"),
        (Fault.SEARCH_QUOTA, 429, b"search_quota_exceeded"),
        (Fault.SERVER_ERROR_JSON, 500, b"server_error"),
        (Fault.SERVER_ERROR_HTML, 500, b"<center>nginx</center>"),
        (Fault.BAD_GATEWAY_HTML, 502, b"<h1>502 Bad Gateway</h1>"),
        (Fault.FORBIDDEN_HTML, 403, b"<html>"),
        (Fault.BAD_KEY_401, 401, b"auth_error"),
        (Fault.BAD_KEY_404, 404, b"auth_error"),
        (Fault.SUCCESS_FALSE, 200, b'"success":false'),
        (Fault.NO_V1, 404, b"<html>"),
        (Fault.EMPTY_LIST, 200, b'"total_instances":0'),
    ],
)
async def test_faults(sim: Simulation, fault: Fault, status: int, piece: bytes) -> None:
    """Each spoils one call and no more."""
    sim.account.add()
    sim.account.faults.next(fault)
    spoilt = await call(sim, "GET", V1)
    assert spoilt.status == status
    assert piece in spoilt.body
    assert (await answer(sim, "GET", V1))["instances_found"] == 1


async def test_the_old_list_can_be_empty_too(sim: Simulation) -> None:
    sim.account.add()
    sim.account.faults.next(Fault.EMPTY_LIST)
    assert await answer(sim, "GET", V0) == {"instances_found": 0, "instances": []}


async def test_truncated_json(sim: Simulation) -> None:
    sim.account.add()
    sim.account.faults.next(Fault.TRUNCATED_JSON)
    cut = await call(sim, "GET", V1)
    assert cut.status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(cut.body)


async def test_a_hanging_call_is_answered_when_released(sim: Simulation) -> None:
    sim.account.faults.next(Fault.HANG)
    async with asyncio.TaskGroup() as group:
        hanging = group.create_task(answer(sim, "GET", V1))
        async with asyncio.timeout(5):
            while not sim.account.faults.hanging:
                await asyncio.sleep(0.005)
        assert (await answer(sim, "GET", V1))["instances"] == []
        assert not hanging.done()
        sim.account.faults.release()
    assert hanging.result()["instances"] == []


async def test_a_simulation_ends_although_a_call_hangs() -> None:
    async with Simulation(instances=0) as sim:
        sim.account.faults.always(Fault.HANG)
        task = asyncio.get_running_loop().create_task(call(sim, "GET", V1))
        async with asyncio.timeout(5):
            while not sim.account.faults.hanging:
                await asyncio.sleep(0.005)
    assert (await task).status == 200


async def test_calls_are_recorded(sim: Simulation) -> None:
    await call(sim, "GET", V1, query={"limit": 3})
    assert sim.account.calls[-1].path == V1
    assert sim.account.calls[-1].query == {"limit": "3"}


async def test_renting_over_the_api_brings_up_a_machine(sim: Simulation) -> None:
    made = await answer(sim, "PUT", "/api/v0/asks/5551/", {"image": "vllm/vllm-openai:latest", "disk": 20})
    contract = sim.account.contract(made["new_contract"])
    async with asyncio.timeout(5):
        while contract.phase is not Phase.RUNNING:
            await asyncio.sleep(0.005)
    assert sim.instance(contract.id).engine.flavour == "vllm"
    assert await refusal(sim, "PUT", "/api/v0/asks/5551/", {"image": "x"}) == (410, "no_such_ask")
    bare = await answer(sim, "PUT", "/api/v0/asks/5552/", {"image": "ubuntu:24.04"})
    with pytest.raises(LookupError):
        _ = sim.instance(bare["new_contract"]).engine


HOOKS, API_KEYS = "/api/v0/webhooks/", "/api/v0/auth/apikeys/"


async def test_webhooks(sim: Simulation) -> None:
    """Made, listed without the secret, tried, given another one, deleted; who asked for it is told what happens."""
    kinds = (await answer(sim, "GET", "/api/v0/notification-types/"))["notification_types"]
    assert {"key": "client:outbid", "slug": "outbid"}.items() <= kinds[8].items()
    wanted = {"name": "p", "webhook_url": "https://p.example.com/x", "event_types": ["client:outbid"]}
    made = (await answer(sim, "POST", HOOKS, wanted))["webhook"]
    [listed] = (await answer(sim, "GET", HOOKS))["webhooks"]
    assert listed == {name: value for name, value in made.items() if name != "webhook_secret"}
    one = f"{HOOKS}{made['id']}/"
    await answer(sim, "POST", f"{one}test/", {})
    sim.account.webhooks.tell("low_credit", "Low credit")
    sim.account.webhooks.tell("outbid", "Outbid")
    events = [json.loads(delivery.body)["notif_type"] for delivery in sim.account.webhooks.deliveries]
    assert events == ["webhook_test", "outbid"]
    again = (await answer(sim, "POST", f"{one}rotate-secret/", {}))["webhook"]
    assert again["webhook_secret"] != made["webhook_secret"]
    await answer(sim, "DELETE", one, {})
    assert await refusal(sim, "DELETE", one, {}) == (404, "not_found")
    for wrong in (
        {**wanted, "webhook_url": "http://p.example.com"},
        {**wanted, "event_types": ["client:flood"]},
        {**wanted, "event_types": []},
        {},
    ):
        assert await refusal(sim, "POST", HOOKS, wrong) == (400, "invalid_args")


async def test_keys_with_certain_rights(sim: Simulation) -> None:
    reader = await answer(sim, "POST", API_KEYS, {"name": "r", "permissions": {"api": {"instance_read": {}}}})
    assert (await answer(sim, "GET", V1, key=reader["key"]))["instances_found"] == 0
    assert await refusal(sim, "GET", HOOKS, key=reader["key"]) == (401, "auth_error")
    assert await refusal(sim, "POST", API_KEYS, {}, key=reader["key"]) == (401, "auth_error")
    assert await refusal(sim, "POST", API_KEYS, {"permissions": 5}) == (400, "invalid_args")
    assert [row["name"] for row in (await answer(sim, "GET", API_KEYS))["apikeys"]] == ["r"]
    one = f"{API_KEYS}{reader['id']}/"
    assert (await answer(sim, "GET", one))["key"] == reader["key"]
    await answer(sim, "DELETE", one)
    assert await refusal(sim, "GET", one) == (404, "not_found")
    assert (await refusal(sim, "GET", V1, key=reader["key"]))[1] == "auth_error"

"""What dashboards ask for, by its routes: the overview, one backend, events, the hour, requests by their state."""

import json
from collections.abc import AsyncIterator

import pytest

from tests.helpers.fleet_bench import FleetBench
from tests.helpers.stories import lease
from tests.unit.api.test_admin_orders import Admin
from vastproxy.services.backends.gpus import Gpu, GpuReading
from vastproxy.services.events import LabelWritten

V1 = b"/vastproxy/v1/"


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    bench = FleetBench()
    async with bench.fleet:
        await bench.serve(1, 2)
        yield Admin(bench)


async def test_the_overview(admin: Admin) -> None:
    fleet = admin.bench.fleet
    fleet.live.url = "http://here/v1"
    fleet.live.backends[1].gpus = GpuReading((Gpu(0, name="A"),))
    told = await admin.get(V1 + b"fleet")
    assert (told["url"], told["status"], told["reason"]) == ("http://here/v1", "healthy", None)
    assert told["counts"]["total"] == told["counts"]["healthy"] == 2
    assert told["uptime_s"] >= 0
    assert told["at_unix"] > 1e9
    assert set(told["vast_api"]) == {"status", "latency_ms", "error"}
    assert set(told["account"]) == {"credit_dollars", "dollars_per_hour", "hours_left"}
    assert told["totals"]["requests"] == 0
    first, second = told["backends"]
    assert (first["id"], second["id"]) == (1, 2)
    listed = (await admin.get(V1 + b"backends"))["backends"][0]
    moving = {"since_s", "tunnel_since_s", "time_left", "machine"}  # the last is there while a ledger is kept
    assert {name: first[name] for name in listed if name not in moving} == {
        name: value for name, value in listed.items() if name not in moving
    }
    assert set(first) - set(listed) == {"tokens_per_s", "requests_per_s", "errors"}
    assert first["tunnel_since_s"] >= 0
    assert first["draining"] is False


async def test_the_overview_of_an_empty_fleet() -> None:
    bench = FleetBench()
    async with bench.fleet:
        told = await Admin(bench).get(V1 + b"fleet")
        assert told["backends"] == []
        assert told["totals"]["dollars_per_hour"] == 0


async def test_one_backend_with_what_is_known_of_it_but_no_secret(admin: Admin) -> None:
    fleet = admin.bench.fleet
    token = fleet.live.backends[1].instance.jupyter_token
    for label in ("a", "b"):
        fleet.events.publish(LabelWritten(1, label))
    fleet.events.publish(LabelWritten(2, "other"))
    told = await admin.get(V1 + b"backends/1")
    assert told["instance"]["id"] == 1
    assert [event["label"] for event in told["events"][-2:]] == ["a", "b"]
    assert all(event["instance"] == 1 for event in told["events"])
    assert token is None or token not in json.dumps(told)
    assert await admin.refused(b"GET", V1 + b"backends/9") == (404, "not_found")


async def test_the_last_events(admin: Admin) -> None:
    told = (await admin.get(V1 + b"events"))["events"]
    assert {event["kind"] for event in told} >= {"backend_added", "state_changed", "account_read"}
    assert [event["seq"] for event in told] == sorted(event["seq"] for event in told)
    assert len((await admin.get(V1 + b"events?limit=1"))["events"]) == 1
    assert {event["instance"] for event in (await admin.get(V1 + b"events?instance=2"))["events"]} == {2}


async def test_the_hour(admin: Admin) -> None:
    assert await admin.get(V1 + b"history") == {"step_s": 10.0, "instance": None, "points": []}
    assert (await admin.get(V1 + b"history?instance=1&minutes=5"))["instance"] == 1
    assert await admin.refused(b"GET", V1 + b"history?instance=9") == (404, "not_found")


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (b"events?limit=x", "invalid_limit"),
        (b"events?instance=-1", "invalid_query"),
        (b"history?minutes=1.5", "invalid_query"),
        (b"history?instance=x", "invalid_query"),
        (b"live?every_s=0.1", "invalid_query"),
        (b"requests?state=gone", "invalid_query"),
        (b"requests?limit=", "invalid_limit"),
    ],
)
async def test_what_cannot_be_read_is_refused(admin: Admin, target: bytes, code: str) -> None:
    assert await admin.refused(b"GET", V1 + target) == (400, code)


async def test_requests_by_what_they_are_doing(admin: Admin) -> None:
    waiting, running, done, last = admin.came(b"waiting", b"running", b"done", b"last")
    running.lease = lease(1, 1.0)
    done.ended_at = last.ended_at = 5.0
    assert waiting.lease is None
    for state, ids in {"waiting": ["waiting"], "running": ["running"], "done": ["last", "done"]}.items():
        told = (await admin.get(V1 + b"requests?state=" + state.encode()))["requests"]
        assert [row["id"] for row in told] == ids
        assert {row["state"] for row in told} == {state}
    assert len((await admin.get(V1 + b"requests?state=done&limit=1"))["requests"]) == 1


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE"])
@pytest.mark.parametrize("page", [b"fleet", b"events", b"history", b"live", b"backends/1"])
async def test_nothing_of_it_takes_orders(admin: Admin, method: bytes, page: bytes) -> None:
    assert await admin.refused(method, V1 + page) == (405, "method_not_allowed")

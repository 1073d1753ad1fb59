"""Orders by their routes: what is cancelled, aborted, destroyed, trusted, and what is answered where that cannot be."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path as FilePath
from typing import Any

import pytest

from tests.helpers.builders import make_instance
from tests.helpers.fleet_bench import FleetBench
from tests.helpers.recording_client import RecordingClient, make_request
from vastproxy.api.actions import CANCELLED_IN_A_ROW, MAX_BODY_BYTES
from vastproxy.api.app import create_app
from vastproxy.api.http.entrance import Entrance
from vastproxy.api.http.request import Request
from vastproxy.services.events import RequestsCancelled, line_of
from vastproxy.services.http1.framing import EMPTY, Framing
from vastproxy.services.http1.grammar import Header
from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.hostcheck import PinnedHostKeys
from vastproxy.services.tunnels.hostkeys import HostKeyPins
from vastproxy.settings import Settings
from vastproxy.settings.model import ServerSettings, TunnelSettings
from vastproxy.vastai import VastRejected

JSON = (b"content-type", b"application/json")
CHAT = b"/v1/chat/completions"
OLD, NEW = "ssh-ed25519 AAAAold", "ssh-ed25519 AAAAnew"


def _chat(id: bytes, framing: Framing) -> Request:
    headers = [(b"x-request-id", id)]
    return make_request(b"POST", CHAT, headers=headers, framing=framing, host=b"127.0.0.1")


class Orders:
    """A fleet in memory behind the routes of the application. No connection to its engines opens any more."""

    def __init__(self, bench: FleetBench, settings: Settings | None = None) -> None:
        self.bench = bench
        for tunnel in bench.engine.made:
            tunnel.gate.clear()
        bench.fleet.settings = settings or bench.fleet.settings
        self._app = create_app(bench.fleet.settings, fleet=bench.fleet)
        self._entrance: Entrance = self._app.state.entrance

    async def order(self, path: str, body: object = None, *headers: Header) -> tuple[int | None, Any]:
        """Status and document of the answer to a POST."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self._ask(b"POST", path, headers or (JSON,), data)

    async def get(self, path: str) -> tuple[int | None, Any]:
        return await self._ask(b"GET", path, (), b"")

    async def refused(self, path: str, body: object = None, *headers: Header) -> tuple[int | None, str]:
        """Status and code."""
        status, document = await self.order(path, body, *headers)
        assert document["error"]["message"][-1] == "."
        return status, document["error"]["code"]

    async def _ask(
        self, method: bytes, path: str, headers: tuple[Header, ...], data: bytes
    ) -> tuple[int | None, Any]:
        client = RecordingClient()
        framing = Framing(chunked=False, length=len(data)) if data else EMPTY
        request = make_request(method, f"/vastproxy/v1/{path}".encode(), headers=headers, framing=framing)
        self._entrance.handle(request, client).begin(data, complete=True)
        async with asyncio.timeout(5):
            while not client.ended:
                await asyncio.sleep(0)
        return client.status, json.loads(client.body)

    def come(self, id: bytes) -> RecordingClient:
        """Somebody asks for an answer."""
        client = RecordingClient()
        request = _chat(id, Framing(chunked=False, length=2))
        self._entrance.handle(request, client).begin(b"{}", complete=True)
        return client

    def part(self, id: bytes) -> RecordingClient:
        """Somebody has sent a part of a request."""
        client = RecordingClient()
        request = _chat(id, Framing(chunked=True, length=None))
        self._entrance.handle(request, client).begin(b"{", complete=False)
        return client

    async def aclose(self) -> None:
        async with self._app.router.lifespan_context(self._app):
            pass


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Any]]:
    made: list[Orders] = []
    bench = FleetBench()

    async def orders(**sections: Any) -> Orders:
        await bench.serve(1, 2)
        settings = bench.fleet.settings.model_copy(update=sections) if sections else None
        made.append(Orders(bench, settings))
        return made[-1]

    async with bench.fleet:
        yield orders
        for each in made:
            await each.aclose()


@pytest.fixture
async def orders(make: Callable[..., Any]) -> Orders:
    found: Orders = await make()
    return found


# ── cancelling ─────────────────────────────────────────────────────────────────────────────────


async def test_a_request_that_runs_is_cancelled(orders: Orders) -> None:
    client = orders.come(b"r/1")
    assert await orders.order("requests/r%2F1/cancel", {}) == (
        200,
        {"id": "r/1", "was": "running", "cancelled": True, "requests": 1},
    )
    assert client.status == 503
    assert json.loads(client.body)["error"]["code"] == "cancelled"
    assert orders.bench.fleet.in_flight == 0
    assert RequestsCancelled(None, 1, "by the operator") in orders.bench.events
    assert await orders.refused("requests/r%2F1/cancel") == (409, "already_over")


async def test_all_with_one_id_are_meant_and_no_others(orders: Orders) -> None:
    clients = [orders.come(id) for id in (b"a", b"same", b"same", b"b")]
    status, told = await orders.order("requests/same/cancel")
    assert (status, told["requests"]) == (200, 2)
    assert [client.status for client in clients] == [None, 503, 503, None]
    await orders.order("abort", {"instance": None})


async def test_one_that_still_comes_is_cancelled(orders: Orders) -> None:
    client = orders.part(b"r1")
    assert (await orders.order("requests/r1/cancel"))[1]["was"] == "waiting"
    assert client.status == 503


async def test_one_that_nobody_knows(orders: Orders) -> None:
    assert await orders.refused("requests/r1/cancel") == (404, "not_found")


@pytest.mark.parametrize("path", ["requests/r1/cancel", "abort", "backends/1/destroy", "backends/1/trust"])
async def test_what_a_page_of_another_site_can_send_is_no_order(orders: Orders, path: str) -> None:
    orders.come(b"r1")
    kind = (b"content-type", b"text/plain")
    assert await orders.refused(path, {"instance": None, "confirm": "1"}, kind) == (
        415,
        "unsupported_media_type",
    )
    assert orders.bench.fleet.in_flight == 1
    assert orders.bench.account.destroyed == []
    await orders.order("abort", {"instance": None})


# ── aborting ───────────────────────────────────────────────────────────────────────────────────


async def test_all_are_aborted_those_who_wait_too(orders: Orders) -> None:
    count = 3 * CANCELLED_IN_A_ROW
    clients = [orders.come(b"r%d" % number) for number in range(count)] + [orders.part(b"late")]
    assert await orders.order("abort", {"instance": None}) == (
        200,
        {"cancelled": count + 1, "instance": None},
    )
    assert {client.status for client in clients} == {503}
    assert orders.bench.fleet.in_flight == 0
    assert (await orders.order("abort", {"instance": None}))[1]["cancelled"] == 0


async def test_those_of_one_instance_are_aborted(orders: Orders) -> None:
    clients = [orders.come(b"r%d" % number) for number in range(6)]
    status, told = await orders.order("abort", {"instance": 1})
    assert (status, told) == (200, {"cancelled": 3, "instance": 1})
    assert [client.status for client in clients].count(503) == 3
    assert line_of(orders.bench.events[-1]).text == "3 requests on instance 1 were cancelled by the operator"
    backends = {backend.id: backend.in_flight for backend in orders.bench.fleet.snapshot().backends}
    assert backends == {1: 0, 2: 3}
    assert (await orders.order("abort", {"instance": 1}))[1]["cancelled"] == 0
    await orders.order("abort", {"instance": None})


@pytest.mark.parametrize(
    "body",
    [None, {}, [], b"{", b"7", {"instance": "1"}, {"instance": True}, {"instance": 1.5}, b"[" * 60_000],
)
async def test_who_is_meant_has_to_be_said(orders: Orders, body: object) -> None:
    client = orders.come(b"r1")
    assert await orders.refused("abort", body) == (400, "invalid_order")
    assert client.status is None
    await orders.order("abort", {"instance": None})


async def test_an_order_is_short(orders: Orders) -> None:
    body = b'{"instance": null, "x": "' + b"x" * MAX_BODY_BYTES + b'"}'
    assert await orders.refused("abort", body) == (400, "invalid_order")


async def test_an_instance_that_is_not_served(orders: Orders) -> None:
    assert await orders.refused("abort", {"instance": 3}) == (404, "not_found")


# ── destroying ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("confirm", ["1", 1])
async def test_an_instance_is_destroyed(orders: Orders, confirm: object) -> None:
    told = await orders.order("backends/1/destroy", {"confirm": confirm})
    assert told == (200, {"id": 1, "destroyed": True})
    assert orders.bench.account.destroyed == [1]
    assert orders.bench.fleet.backend_ids == (2,)


@pytest.mark.parametrize("body", [None, {}, {"confirm": "2"}, {"confirm": True}, {"confirm": None}])
async def test_without_its_id_it_is_not(orders: Orders, body: object) -> None:
    assert await orders.refused("backends/1/destroy", body) == (400, "not_confirmed")
    assert await orders.refused("backends/1/destroy", b"{") == (400, "invalid_order")
    assert orders.bench.account.destroyed == []


async def test_one_that_is_not_served_is_not_destroyed(orders: Orders) -> None:
    assert await orders.refused("backends/3/destroy", {"confirm": "3"}) == (404, "not_found")


async def test_vast_ai_is_quoted_where_it_says_no(orders: Orders) -> None:
    orders.bench.account.destroy_error = VastRejected("vast.ai answered 400: no way", "invalid_args")
    status, told = await orders.order("backends/1/destroy", {"confirm": "1"})
    assert (status, told["error"]["code"]) == (502, "vast_api_error")
    assert told["error"]["message"] == "vast.ai did not destroy instance 1: vast.ai answered 400: no way."
    assert orders.bench.fleet.backend_ids == (1, 2)


async def test_a_proxy_may_be_told_to_destroy_nothing(make: Callable[..., Any]) -> None:
    orders = await make(server=ServerSettings(allow_destroy=False))
    assert await orders.refused("backends/1/destroy", {"confirm": "1"}) == (403, "actions_disabled")
    assert orders.bench.account.destroyed == []


# ── trusting ───────────────────────────────────────────────────────────────────────────────────


async def changed(orders: Orders, tmp_path: FilePath) -> HostKeyPins:
    """Instance 1 shows another key on both paths."""
    pins = HostKeyPins(tmp_path / "pins.json", clock=lambda: 1_767_225_600)
    identity = make_instance(id=1).identity
    for path in Path:
        await pins.trust(identity, path, OLD)
        await pins.refuse(identity, path, NEW, address="192.0.2.7:22")
    orders.bench.engine.host_keys = PinnedHostKeys(pins)
    return pins


async def test_both_keys_are_told_and_the_new_one_is_trusted(orders: Orders, tmp_path: FilePath) -> None:
    await changed(orders, tmp_path)
    status, told = await orders.get("backends/1/trust")
    assert (status, told["id"], [change["path"] for change in told["changes"]]) == (
        200,
        1,
        ["direct", "relay"],
    )
    first = told["changes"][0]
    assert first["address"] == "192.0.2.7:22"
    assert (first["pinned"]["key"], first["pinned"]["since_unix"]) == (OLD, 1_767_225_600)
    assert (first["refused"]["key"], first["refused"]["seen_unix"]) == (NEW, 1_767_225_600)
    assert await orders.order("backends/1/trust", {"keys": [NEW], "path": "relay"}) == (
        200,
        {"id": 1, "forgotten": 1, "paths": ["relay"]},
    )
    assert (await orders.order("backends/1/trust", {}))[1]["paths"] == ["direct"]
    assert (await orders.get("backends/1/trust"))[1]["changes"] == []
    assert await orders.refused("backends/1/trust") == (409, "nothing_to_trust")


@pytest.mark.parametrize(
    "body", [b"{", {"keys": "x"}, {"keys": [1]}, {"path": "both"}, {"path": 1}, {"path": []}]
)
async def test_what_is_trusted_has_to_be_said_in_order(
    orders: Orders, tmp_path: FilePath, body: object
) -> None:
    pins = await changed(orders, tmp_path)
    assert await orders.refused("backends/1/trust", body) == (400, "invalid_order")
    assert pins.pinned(make_instance(id=1).identity, Path.DIRECT) == OLD


async def test_who_is_not_served_has_no_keys(orders: Orders) -> None:
    assert await orders.refused("backends/3/trust") == (404, "not_found")
    assert (await orders.get("backends/3/trust"))[0] == 404


async def test_nobody_overrules_a_list_of_host_keys(make: Callable[..., Any], tmp_path: FilePath) -> None:
    orders = await make(
        tunnels=TunnelSettings(host_keys="strict", known_hosts="~/.ssh/known_hosts", paths="one")
    )
    await changed(orders, tmp_path)
    assert await orders.refused("backends/1/trust") == (409, "nothing_to_trust")


async def test_a_decision_that_cannot_be_written_is_not_pretended(orders: Orders, tmp_path: FilePath) -> None:
    pins = await changed(orders, tmp_path / "there")
    # A directory where the lock belongs: the file can be read, and nobody can write it.
    lock = tmp_path / "there" / "pins.json.lock"
    lock.unlink()
    lock.mkdir()
    assert await orders.refused("backends/1/trust") == (500, "pins_not_stored")
    assert pins.pinned(make_instance(id=1).identity, Path.DIRECT) is not None

"""The admin API by its routes: the last requests and one of them by its id; orders, and who may give them."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tests.helpers.fleet_bench import FleetBench
from tests.helpers.recording_client import RecordingClient, make_request
from tests.helpers.stories import lease
from vastproxy.api.admin import MOST_REQUESTS, REQUESTS
from vastproxy.api.app import create_app
from vastproxy.api.http.entrance import Entrance
from vastproxy.api.rows import ROWS_IN_A_ROW
from vastproxy.services.dispatch.claim import Claim
from vastproxy.services.http1.framing import EMPTY, Framing
from vastproxy.services.http1.grammar import Header

JSON = (b"content-type", b"application/json")
LIST = b"/vastproxy/v1/requests"


class Admin:
    """A fleet in memory behind the routes of the application, which are asked as our own server asks them."""

    def __init__(self, bench: FleetBench) -> None:
        self.bench = bench
        self._entrance: Entrance = create_app(bench.fleet.settings, fleet=bench.fleet).state.entrance

    async def ask(
        self, method: bytes, target: bytes, *headers: Header, body: bytes = b""
    ) -> tuple[int | None, Any]:
        """Status and document of an answer, which is JSON."""
        client = RecordingClient()
        framing = Framing(chunked=False, length=len(body)) if body else EMPTY
        request = make_request(method, target, headers=headers, framing=framing)
        self._entrance.handle(request, client).begin(body, complete=True)
        async with asyncio.timeout(5):
            while not client.ended:
                await asyncio.sleep(0)
        assert client.complete
        assert client.header(b"content-type") == b"application/json"
        return client.status, json.loads(client.body)

    async def get(self, target: bytes) -> Any:
        status, document = await self.ask(b"GET", target)
        assert status == 200, document
        return document

    async def refused(self, method: bytes, target: bytes, *headers: Header) -> tuple[int | None, str]:
        """Status and code of a refusal in OpenAI's shape."""
        status, document = await self.ask(method, target, *headers)
        assert set(document) == {"error"}
        assert set(document["error"]) == {"message", "type", "code", "param"}
        return status, document["error"]["code"]

    def came(self, *ids: bytes) -> list[Claim]:
        """Requests come, one after the other."""
        claims = [Claim(float(number), id, b"POST", b"/v1/x?key=secret") for number, id in enumerate(ids)]
        for claim in claims:
            self.bench.fleet.traces.keep(claim)
        return claims


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    bench = FleetBench()
    async with bench.fleet:
        await bench.serve(1, 2)
        yield Admin(bench)


# ── requests ───────────────────────────────────────────────────────────────────────────────────


async def test_the_last_requests_are_listed_the_newest_first(admin: Admin) -> None:
    assert await admin.get(LIST) == {"requests": []}
    admin.came(b"a", b"b", b"c")
    assert [row["id"] for row in (await admin.get(LIST))["requests"]] == ["c", "b", "a"]
    assert [row["id"] for row in (await admin.get(LIST + b"?limit=2"))["requests"]] == ["c", "b"]
    assert (await admin.get(LIST + b"?limit=0")) == {"requests": []}


async def test_as_many_are_listed_as_is_asked_for_and_bearable(admin: Admin) -> None:
    admin.came(*(b"r%d" % number for number in range(MOST_REQUESTS + 50)))
    for query, count in ((b"", REQUESTS), (b"?limit=7", 7), (b"?limit=999999", MOST_REQUESTS)):
        assert len((await admin.get(LIST + query))["requests"]) == count


@pytest.mark.parametrize("limit", [b"", b"-1", b"x", b"1.5", b"1e3", b"9999999", b"%D9%A1", b"1%202"])
async def test_a_limit_is_a_number(admin: Admin, limit: bytes) -> None:
    assert await admin.refused(b"GET", LIST + b"?limit=" + limit) == (400, "invalid_limit")


async def test_one_request_by_its_id(admin: Admin) -> None:
    (claim,) = admin.came(b"r1")
    claim.leases = [lease(101, 0.5, "the only one", ((101, 1.5),))]
    claim.leases[0].end("failed", 0.7, "connection refused")
    story = await admin.get(LIST + b"/r1")
    assert (story["id"], story["path"], story["state"]) == ("r1", "/v1/x", "waiting")
    assert story["attempts"][0]["error"] == "connection refused"
    assert (await admin.get(LIST))["requests"][0]["attempts"] == story["attempts"]


@pytest.mark.parametrize(
    ("id", "quoted"),
    [
        (b"a/b+c=1@x:y", b"a%2Fb%2Bc%3D1%40x%3Ay"),
        (b"a/b+c=1@x:y", b"a/b+c=1@x:y"),
        (b"a//b/", b"a//b/"),
        (b"/a", b"%2Fa"),
        (b"..", b"%2E%2E"),
        (b"../backends", b"..%2Fbackends"),
        (b"drain", b"drain"),
        (b"x" * 128, b"x" * 128),
    ],
)
async def test_ids_are_what_clients_make_them(admin: Admin, id: bytes, quoted: bytes) -> None:
    admin.came(b"first", id, b"last")
    assert (await admin.get(LIST + b"/" + quoted))["id"] == id.decode()


@pytest.mark.parametrize("id", [b"", b"%00", b"%FF%FE", "ü".encode(), b"%F0%9F%98%80", b"r", b"r1%20"])
async def test_an_id_that_nobody_had(admin: Admin, id: bytes) -> None:
    admin.came(b"r1")
    assert await admin.refused(b"GET", LIST + b"/" + id) == (404, "not_found")


async def test_of_several_with_one_id_it_is_the_last(admin: Admin) -> None:
    for status, claim in zip((500, 200), admin.came(b"same", b"same"), strict=True):
        claim.status = status
    assert (await admin.get(LIST + b"/same"))["status"] == 200


@pytest.mark.parametrize("model", ["\ud800", "\x00\x1b[31m", '"', "😀" * 300, "x" * 100_000])
async def test_whatever_a_client_wrote_can_be_told(admin: Admin, model: str) -> None:
    (claim,) = admin.came(b"r1")
    claim.model = model
    told = (await admin.get(LIST + b"/r1"))["model"]
    assert len(told) <= 300
    assert (await admin.get(LIST))["requests"][0]["model"] == told


@pytest.mark.parametrize("score", [float("inf"), float("-inf"), float("nan")])
async def test_a_score_beyond_all_numbers_can_be_told(admin: Admin, score: float) -> None:
    """As of an instance whose cost is not known; JSON has no number for it."""
    (claim,) = admin.came(b"r1")
    claim.leases = [lease(101, 0.5, "cheapest", ((101, score), (102, 2.0)))]
    candidates = (await admin.get(LIST + b"/r1"))["attempts"][0]["candidates"]
    assert [each["score"] for each in candidates] == [None, 2.0]
    assert (await admin.get(LIST))["requests"][0]["attempts"][0]["candidates"] == candidates


async def test_many_long_stories_do_not_hold_up_others(admin: Admin) -> None:
    """Somebody else has his turn between the pieces of the list."""
    for claim in admin.came(*(b"r%d" % number for number in range(MOST_REQUESTS))):
        claim.leases = [lease(101, 0.5, "x", [(100 + at, 1.5) for at in range(32)])]
    turns, is_over = 0, False

    async def somebody_else() -> None:
        nonlocal turns
        while not is_over:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.get_running_loop().create_task(somebody_else())
    listed = await admin.get(LIST + b"?limit=200")
    is_over = True
    await task
    assert len(listed["requests"]) == MOST_REQUESTS
    assert [row["id"] for row in listed["requests"][:2]] == ["r199", "r198"]
    assert turns > MOST_REQUESTS / ROWS_IN_A_ROW


async def test_what_is_told_has_no_query(admin: Admin) -> None:
    admin.came(b"r1")
    assert "secret" not in json.dumps(await admin.get(LIST))


# ── orders ─────────────────────────────────────────────────────────────────────────────────────


def order(id: int | str, what: str = "drain") -> bytes:
    return f"/vastproxy/v1/backends/{id}/{what}".encode()


async def test_a_drained_instance_gets_no_new_requests_until_that_is_taken_back(admin: Admin) -> None:
    running = admin.bench.lease(pin=1)
    status, row = await admin.ask(b"POST", order(1), JSON, body=b"{}")
    assert (status, row["id"], row["state"], row["in_flight"]) == (200, 1, "draining", 1)
    assert {admin.bench.lease().backend.id for _ in range(4)} == {2}
    assert running.backend.in_flight == 1
    assert [each["state"] for each in (await admin.get(b"/vastproxy/v1/backends"))["backends"]] == [
        "draining",
        "healthy",
    ]
    status, row = await admin.ask(b"POST", order(1, "undrain"), JSON)
    assert (status, row["state"]) == (200, "unhealthy")
    await admin.bench.fleet.tend(1)
    assert admin.bench.lease(pin=1).backend.id == 1


async def test_an_order_that_is_given_twice_is_one(admin: Admin) -> None:
    for _ in range(2):
        assert (await admin.ask(b"POST", order(1), JSON))[1]["state"] == "draining"
    await admin.bench.fleet.tend(1)
    assert admin.bench.states()[1] == "draining"
    for _ in range(2):
        assert (await admin.ask(b"POST", order(1, "undrain"), JSON))[0] == 200
    assert admin.bench.states()[1] == "unhealthy"


async def test_what_was_never_drained_stays_as_it_is(admin: Admin) -> None:
    status, row = await admin.ask(b"POST", order(1, "undrain"), JSON)
    assert (status, row["state"]) == (200, "healthy")


@pytest.mark.parametrize("what", ["drain", "undrain"])
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"text/plain")],
        [(b"content-type", b"application/x-www-form-urlencoded")],
        [(b"content-type", b"multipart/form-data; boundary=x")],
        [(b"content-type", b"application/jsonp")],
        [(b"content-type", b"text/plain; application/json")],
    ],
)
async def test_what_a_page_of_another_site_can_send_is_no_order(
    admin: Admin, what: str, headers: Sequence[Header]
) -> None:
    assert await admin.refused(b"POST", order(1, what), *headers) == (415, "unsupported_media_type")
    assert admin.bench.states()[1] == "healthy"


@pytest.mark.parametrize(
    "kind", [b"application/json; charset=utf-8", b"Application/JSON", b" application/json "]
)
async def test_ways_to_say_json(admin: Admin, kind: bytes) -> None:
    assert (await admin.ask(b"POST", order(1), (b"content-type", kind)))[0] == 200


@pytest.mark.parametrize("id", [3, 0, 10**30])
async def test_an_instance_that_is_not_served(admin: Admin, id: int) -> None:
    assert await admin.refused(b"POST", order(id), JSON) == (404, "not_found")


@pytest.mark.parametrize("id", ["x", "-1", "1.0", "", "1/2", "%D9%A1"])
async def test_what_is_no_id_is_no_page(admin: Admin, id: str) -> None:
    assert await admin.refused(b"POST", order(id), JSON) == (404, "not_found")


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"DELETE"])
async def test_an_order_is_a_post(admin: Admin, method: bytes) -> None:
    assert await admin.refused(method, order(1), JSON) == (405, "method_not_allowed")
    assert admin.bench.states()[1] == "healthy"


async def test_requests_are_only_looked_at(admin: Admin) -> None:
    admin.came(b"r1")
    for target in (LIST, LIST + b"/r1"):
        assert await admin.refused(b"POST", target, JSON) == (405, "method_not_allowed")

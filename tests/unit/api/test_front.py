"""The fork in the road: what is ours, what is proxied, and that both ways in ask for the key alike."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.types import Receive, Scope, Send

from tests.helpers.exchanging import Scene, settle
from tests.helpers.recording_client import RecordingClient, make_request
from vastproxy.api.auth import KeyRing
from vastproxy.api.errors import bad_request
from vastproxy.api.front import Entrance, Front, is_own, needed_right
from vastproxy.api.proxy import Proxy
from vastproxy.services.access.records import KeyBook, KeyLimits, Right
from vastproxy.services.fleet import Fleet
from vastproxy.services.http1.grammar import Header
from vastproxy.services.tasks import Tasks
from vastproxy.services.traces import KEPT_STRANGERS

pytestmark = pytest.mark.virtual_time

KEYS = KeyRing(["sk-right"])
RIGHT = (b"authorization", b"Bearer sk-right")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Ways:
    """Both ways in, before one proxy. Our own pages answer 299."""

    def __init__(self, scene: Scene, fleet: Fleet, keys: KeyRing) -> None:
        self.scene = scene
        self.proxy = Proxy(fleet, access_log=scene.access)
        self.tasks = Tasks("test")
        self.front = Front(self._ours, proxy=self.proxy, keys=keys, tasks=self.tasks)
        self.entrance = Entrance(self.front, proxy=self.proxy, keys=keys, tasks=self.tasks)
        self.own: list[str] = []
        self.callers: list[object] = []

    async def _ours(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.callers.append(scope.get("state", {}).get("caller"))
        self.own.append(scope.get("path", scope["type"]))
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 299, "headers": []})
            await send({"type": "http.response.body", "body": b"ours"})

    async def through_entrance(
        self, target: bytes, headers: list[Header]
    ) -> tuple[int | None, bytes, bytes | None]:
        client = RecordingClient()
        handler = self.entrance.handle(make_request(target=target, headers=headers), client)
        handler.begin(b"", complete=True)
        await settle()
        if self.scene.streams and not client.ended:
            self.scene.streams[-1].feed(OK)
        assert client.complete
        return client.status, client.body, client.header(b"x-request-id")

    async def through_front(
        self, target: bytes, headers: list[Header]
    ) -> tuple[int | None, bytes, bytes | None]:
        path, _, query = target.partition(b"?")
        scope = {
            "type": "http",
            "method": "GET",
            "path": path.decode(),
            "raw_path": path,
            "query_string": query,
            "headers": [(b"host", b"h"), *headers],
        }
        sent: list[Any] = []
        messages: asyncio.Queue[Any] = asyncio.Queue()
        messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})

        async def send(message: Any) -> None:
            sent.append(message)

        async def answer() -> None:
            await settle()
            if self.scene.streams:
                self.scene.streams[-1].feed(OK)

        self.tasks.spawn(answer(), name="engine")
        await self.front(scope, messages.get, send)
        body = b"".join(message.get("body", b"") for message in sent)
        return sent[0]["status"], body, dict(sent[0]["headers"]).get(b"x-request-id")

    async def ask(self, way: str, target: bytes, *headers: Header) -> tuple[int | None, bytes, bytes | None]:
        ask = self.through_entrance if way == "entrance" else self.through_front
        return await ask(target, list(headers))

    async def aclose(self) -> None:
        await self.proxy.aclose()
        await self.tasks.aclose()


@pytest.fixture
async def make_ways(make_scene: Callable[..., Scene]) -> AsyncIterator[Callable[[KeyRing], Ways]]:
    made: list[Ways] = []

    def make(keys: KeyRing) -> Ways:
        scene = make_scene()
        made.append(Ways(scene, cast(Fleet, scene.fleet), keys))
        return made[-1]

    yield make
    for ways in made:
        await ways.aclose()


@pytest.fixture
async def locked(make_ways: Callable[[KeyRing], Ways]) -> Ways:
    return make_ways(KEYS)


@pytest.fixture
async def free(make_ways: Callable[[KeyRing], Ways]) -> Ways:
    return make_ways(KeyRing([]))


BOTH = pytest.mark.parametrize("way", ["entrance", "front"])


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/healthz", True),
        ("/livez", True),
        ("/readyz", True),
        ("/v1/models", True),
        ("/vastproxy", True),
        ("/vastproxy/v1/backends", True),
        ("/webhooks/x", True),
        ("/v1/models/m", False),
        ("/v1/chat/completions", False),
        ("/vastproxyx", False),
        ("/HEALTHZ", False),
        ("/", False),
        ("", False),
    ],
)
def test_what_is_ours(path: str, own: bool) -> None:
    assert is_own(path) is own


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/vastproxy", Right.ADMIN),
        ("/vastproxy/v1/backends", Right.ADMIN),
        ("/metrics", Right.ADMIN),
        ("/v1/models", Right.INFERENCE),
        ("/vastproxyx", Right.INFERENCE),
        ("/webhooks/x", Right.INFERENCE),
    ],
)
def test_what_a_caller_needs(path: str, right: Right) -> None:
    assert needed_right(path) is right


@BOTH
async def test_ours_stays_here_and_the_rest_is_proxied(free: Ways, way: str) -> None:
    assert (await free.ask(way, b"/v1/models"))[:2] == (299, b"ours")
    assert free.scene.streams == []
    status, body, request_id = await free.ask(way, b"/v1/x?y=z", (b"x-request-id", b"mine-1"))
    assert (status, body, request_id) == (200, b"ok", b"mine-1")
    assert free.scene.streams[0].written.startswith(b"GET /v1/x?y=z HTTP/1.1\r\n")


@BOTH
@pytest.mark.parametrize("target", [b"/v1/x", b"/v1/models", b"/vastproxy/v1/backends"])
async def test_without_a_key_nothing_but_health(locked: Ways, way: str, target: bytes) -> None:
    for headers in ([], [(b"authorization", b"Bearer wrong")], [RIGHT, RIGHT]):
        status, body, _ = await locked.ask(way, target, *headers)
        assert (status, json.loads(body)["error"]["code"]) == (401, "invalid_api_key")
    assert locked.scene.streams == []
    assert locked.own == []
    assert (await locked.ask(way, target, RIGHT))[0] in (200, 299)
    assert (await locked.ask(way, b"/healthz"))[0] == 299


@BOTH
@pytest.mark.parametrize(
    ("rights", "target", "status"),
    [
        (Right.INFERENCE, b"/v1/x", 200),
        (Right.INFERENCE, b"/v1/models", 299),
        (Right.INFERENCE, b"/healthz", 299),
        (Right.INFERENCE, b"/metrics", 403),
        (Right.INFERENCE, b"/vastproxy/", 299),  # the dashboard's files, which hold no data
        (Right.INFERENCE, b"/vastproxy/other", 403),
        (Right.INFERENCE, b"/vastproxy/v1/backends", 403),
        (Right.ADMIN, b"/vastproxy/v1/backends", 299),
        (Right.ADMIN, b"/metrics", 299),
        (Right.ADMIN, b"/v1/models", 403),
        (Right.ADMIN, b"/v1/x", 403),
    ],
)
async def test_rights_are_apart(
    make_ways: Callable[[KeyRing], Ways], tmp_path: Path, way: str, rights: Right, target: bytes, status: int
) -> None:
    """A key to ask engines does not open the proxy itself, nor the other way round."""
    book, _, key = KeyBook().create("web", rights=frozenset({rights}), limits=KeyLimits(), now=0.0)
    (tmp_path / "keys.json").write_text(book.dump())
    keys = KeyRing()
    keys.follow(tmp_path / "keys.json")
    ways = make_ways(keys)
    got, body, _ = await ways.ask(way, target, (b"authorization", b"Bearer " + key.encode()))
    assert got == status
    if status == 403:
        assert json.loads(body)["error"]["code"] == "insufficient_permissions"
        assert ways.own == []
        assert ways.scene.streams == []


async def test_who_has_no_key_pushes_out_no_story(locked: Ways) -> None:
    """Whoever tries keys all day long does not keep an operator from finding what became of a request of his own."""
    assert (await locked.ask("entrance", b"/v1/x", RIGHT, (b"x-request-id", b"mine")))[0] == 200
    for _ in range(2_000):
        locked.entrance.handle(make_request(target=b"/.env"), RecordingClient()).begin(b"", complete=True)
    traces = locked.scene.fleet.traces
    mine = traces.find(b"mine")
    assert mine is not None
    assert mine.status == 200
    assert len(traces) == 1 + KEPT_STRANGERS
    assert sorted(claim.status for claim in traces.latest(9_999)) == [200, *[401] * KEPT_STRANGERS]


async def test_a_revoked_key_is_refused_on_a_connection_that_it_has_opened(
    make_ways: Callable[[KeyRing], Ways], tmp_path: Path
) -> None:
    """What was found out about a head is worth nothing once the keys have changed."""
    now = 0.0
    book, record, key = KeyBook().create(
        "web", rights=frozenset({Right.INFERENCE}), limits=KeyLimits(), now=0.0
    )
    file = tmp_path / "keys.json"
    file.write_text(book.dump())
    keys = KeyRing(monotonic=lambda: now)
    keys.follow(file)
    ways = make_ways(keys)
    request = make_request(headers=[(b"authorization", b"Bearer " + key.encode())])

    async def ask() -> int | None:
        client = RecordingClient()
        ways.entrance.handle(request, client).begin(b"", complete=True)
        await settle()
        if not client.ended:
            ways.scene.streams[-1].feed(OK)
        return client.status

    assert await ask() == 200
    caller = request.facts.admitted_by
    assert await ask() == 200
    assert request.facts.admitted_by is caller, "it was looked up again"
    file.write_text(book.without(record).dump())
    now += 1.0
    assert await ask() == 401


async def test_a_page_of_ours_is_told_who_asks(
    make_ways: Callable[[KeyRing], Ways],
) -> None:
    ways = make_ways(KEYS)
    await ways.ask("front", b"/v1/models", RIGHT)
    assert [getattr(each, "name", None) for each in ways.callers] == ["env-1"]


async def test_a_path_in_disguise_is_ours_all_the_same(free: Ways) -> None:
    assert (await free.ask("entrance", b"/v1%2Fmodels"))[0] == 299
    assert free.scene.streams == []


@pytest.mark.parametrize(
    "theirs", [b"a b", b"<script>", b"x" * 129, b"", b"a\xff", b'"'], ids=lambda value: repr(value)[:20]
)
async def test_an_id_that_could_hurt_a_log_is_replaced(free: Ways, theirs: bytes) -> None:
    _, _, first = await free.ask("entrance", b"/v1/x", (b"x-request-id", theirs))
    _, _, second = await free.ask("entrance", b"/v1/x")
    assert first is not None
    assert second is not None
    assert first != second
    assert (len(first), first.isalnum()) == (20, True)
    assert b"\r\nx-request-id: %b\r\n" % first in free.scene.streams[0].written


@pytest.mark.parametrize(
    ("pin", "instance"),
    [(b"2", 2), (b"99", 1), (b"x", 1), (b"", 1), (b"-2", 1), (b"\xb2", 1), (b"2" * 19, 1)],
)
async def test_a_pin_that_is_no_id_is_no_pin(free: Ways, pin: bytes, instance: int) -> None:
    await free.ask("entrance", b"/v1/x", (b"x-vastproxy-instance", pin))
    assert free.scene.access.lines[0][-1] == instance


async def test_a_refusal_without_a_request_is_one_line(free: Ways) -> None:
    free.entrance.refused(bad_request(400, "No."), RecordingClient())
    assert free.scene.access.lines == [(400, 0, 0, 0, None)]


async def test_websockets_of_a_foreign_server_are_refused_and_its_life_is_ours(free: Ways) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any: ...

    await free.front({"type": "websocket", "path": "/"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "not proxied by this server"}]
    await free.front({"type": "lifespan"}, receive, send)
    assert free.own == ["lifespan"]

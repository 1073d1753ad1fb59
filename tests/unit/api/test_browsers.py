"""What web pages are told, in either way in; without settings nothing at all."""

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from tests.helpers.exchanging import Scene, settle
from tests.helpers.recording_client import RecordingClient, make_request
from vastproxy.api.auth import KeyRing
from vastproxy.api.browsers import Browsers
from vastproxy.api.front import Entrance, Front
from vastproxy.api.http.request import Request
from vastproxy.api.proxy import Proxy
from vastproxy.services.fleet import Fleet
from vastproxy.services.http1.grammar import Header
from vastproxy.services.tasks import Tasks
from vastproxy.settings.exposure import Exposure

pytestmark = pytest.mark.virtual_time

PAGE = (b"origin", b"https://chat.example")
OTHER = (b"origin", b"https://evil.example")
WANTS = (b"access-control-request-method", b"POST")
NAMES = (b"access-control-request-headers", b"authorization,content-type")
ENGINE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nAccess-Control-Allow-Origin: *\r\nx-mine: 1\r\n\r\nok"

CORS = Browsers(Exposure(cors_origins=("https://Chat.example/",)))
HSTS = Browsers(Exposure(hsts_max_age_s=600))


def told_by(browsers: Browsers, *headers: Header, scheme: str = "https") -> dict[bytes, bytes]:
    return dict(browsers.headers(scheme, headers) or ())


def test_without_settings_there_is_nothing_to_ask() -> None:
    assert not Browsers(Exposure()).told
    assert Browsers(Exposure()).headers("https", [PAGE]) is None
    assert Browsers(Exposure()).preflight(b"OPTIONS", [PAGE, WANTS]) is None


def test_a_listed_page_may_read_answers() -> None:
    told = told_by(CORS, PAGE)
    assert told[b"access-control-allow-origin"] == b"https://chat.example"
    assert told[b"vary"] == b"origin"
    assert b"x-request-id" in told[b"access-control-expose-headers"]
    assert b"access-control-allow-credentials" not in told


@pytest.mark.parametrize(
    "origin",
    [
        b"https://evil.example",
        b"https://chat.example.evil.example",
        b"http://chat.example",
        b"https://chat.example:8443",
        b"null",
        b"",
    ],
)
def test_another_page_may_not(origin: bytes) -> None:
    assert told_by(CORS, (b"origin", origin)) == {b"vary": b"origin"}
    assert CORS.preflight(b"OPTIONS", [(b"origin", origin), WANTS]) is None


def test_who_is_no_browser_is_told_nothing() -> None:
    assert CORS.headers("https", [(b"accept", b"*/*")]) is None
    assert CORS.headers("https", [PAGE, OTHER]) is None, "two origins are none"


def test_any_page_where_a_star_says_so() -> None:
    browsers = Browsers(Exposure(cors_origins=("*",)))
    assert told_by(browsers, OTHER)[b"access-control-allow-origin"] == b"*"


def test_a_browser_is_told_what_it_may_send() -> None:
    told = dict(CORS.preflight(b"OPTIONS", [PAGE, WANTS, NAMES]) or ())
    assert told[b"access-control-allow-origin"] == b"https://chat.example"
    assert told[b"access-control-allow-headers"] == NAMES[1]
    assert b"POST" in told[b"access-control-allow-methods"]
    assert b"origin" in told[b"vary"]


@pytest.mark.parametrize("names", [b"x: y", b"x\ty: z", b"a" * 3000, b'"', b"\xff"])
def test_only_names_of_headers_are_repeated(names: bytes) -> None:
    told = CORS.preflight(b"OPTIONS", [PAGE, WANTS, (b"access-control-request-headers", names)])
    assert told is not None
    assert b"access-control-allow-headers" not in dict(told)


@pytest.mark.parametrize(
    ("method", "headers"), [(b"POST", [PAGE, WANTS]), (b"OPTIONS", [PAGE]), (b"OPTIONS", [WANTS])]
)
def test_what_is_no_preflight_is_a_request(method: bytes, headers: list[Header]) -> None:
    assert CORS.preflight(method, headers) is None


def test_https_alone_is_told_to_stay_with_it() -> None:
    assert told_by(HSTS) == {b"strict-transport-security": b"max-age=600"}
    assert HSTS.headers("http", []) is None


# ── on both ways in ────────────────────────────────────────────────────────────────────────────


class Ways:
    def __init__(self, scene: Scene, browsers: Browsers) -> None:
        self.scene = scene
        self.proxy = Proxy(cast(Fleet, scene.fleet), access_log=scene.access)
        self.tasks = Tasks("test")
        keys = KeyRing(["sk"])
        options: dict[str, Any] = {
            "proxy": self.proxy,
            "keys": keys,
            "tasks": self.tasks,
            "browsers": browsers,
        }
        self.front = Front(self._ours, **options)
        self.entrance = Entrance(self.front, **options)

    async def _ours(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 299, "headers": [(b"x-page", b"1")]})
        await send({"type": "http.response.body", "body": b"ours"})

    async def ask(self, method: bytes, target: bytes, *headers: Header) -> RecordingClient:
        client = RecordingClient(scheme="https")
        request: Request = make_request(method, target, headers=headers)
        self.entrance.handle(request, client).begin(b"", complete=True)
        await settle()
        if not client.ended:
            self.scene.streams[-1].feed(ENGINE)
        assert client.complete
        return client

    async def ask_front(self, method: str, path: str, *headers: Header) -> tuple[int, list[Header]]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "method": method, "path": path, "headers": list(headers), "scheme": "https"}
        await self.front(scope, receive, send)
        return sent[0]["status"], list(sent[0]["headers"])


@pytest.fixture
async def make_ways(make_scene: Callable[..., Scene]) -> AsyncIterator[Callable[[Browsers], Ways]]:
    made: list[Ways] = []

    def make(browsers: Browsers) -> Ways:
        made.append(Ways(make_scene(), browsers))
        return made[-1]

    yield make
    for ways in made:
        await ways.proxy.aclose()
        await ways.tasks.aclose()


KEY = (b"authorization", b"Bearer sk")


@pytest.mark.parametrize("target", [b"/v1/x", b"/v1/models", b"/vastproxy/v1/backends"])
async def test_a_preflight_is_answered_without_a_key_and_reaches_nobody(
    make_ways: Callable[[Browsers], Ways], target: bytes
) -> None:
    ways = make_ways(CORS)
    client = await ways.ask(b"OPTIONS", target, PAGE, WANTS)
    assert (client.status, client.body) == (204, b"")
    assert client.header(b"access-control-allow-origin") == PAGE[1]
    status, headers = await ways.ask_front("OPTIONS", target.decode(), PAGE, WANTS)
    assert status == 204
    assert (b"access-control-allow-origin", PAGE[1]) in headers
    assert (await ways.ask(b"OPTIONS", target, OTHER, WANTS)).status == 401
    assert (await ways.ask_front("OPTIONS", target.decode(), OTHER, WANTS))[0] == 401
    assert ways.scene.streams == []


@pytest.mark.parametrize(("target", "status"), [(b"/v1/x", 200), (b"/v1/models", 299)])
async def test_answers_tell_the_page_once(
    make_ways: Callable[[Browsers], Ways], target: bytes, status: int
) -> None:
    """The engine's own word about it is not passed on, for it would be a second one."""
    client = await make_ways(CORS).ask(b"GET", target, PAGE, KEY)
    assert client.status == status
    names = [name for name, _ in client.headers]
    assert names.count(b"access-control-allow-origin") == 1
    assert client.header(b"access-control-allow-origin") == PAGE[1]
    assert (b"x-mine" in names, b"x-page" in names) == (status == 200, status == 299)


async def test_errors_tell_the_page_too(make_ways: Callable[[Browsers], Ways]) -> None:
    """Otherwise a browser would show it nothing but a failed connection."""
    ways = make_ways(CORS)
    client = await ways.ask(b"GET", b"/v1/x", PAGE)
    assert client.status == 401
    assert client.header(b"access-control-allow-origin") == PAGE[1]
    status, headers = await ways.ask_front("GET", "/v1/x", PAGE)
    assert status == 401
    assert (b"access-control-allow-origin", PAGE[1]) in headers


async def test_another_page_does_not_get_the_engines_word(make_ways: Callable[[Browsers], Ways]) -> None:
    client = await make_ways(CORS).ask(b"GET", b"/v1/x", OTHER, KEY)
    assert client.status == 200
    assert client.header(b"access-control-allow-origin") is None


@pytest.mark.parametrize("target", [b"/v1/x", b"/v1/models"])
async def test_every_answer_over_https_tells_to_stay_with_it(
    make_ways: Callable[[Browsers], Ways], target: bytes
) -> None:
    client = await make_ways(HSTS).ask(b"GET", target, KEY)
    assert [value for name, value in client.headers if name == b"strict-transport-security"] == [
        b"max-age=600"
    ]

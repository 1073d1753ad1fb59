"""Which web pages may reach a proxy that asks nobody for a key."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.exchanging import Scene, settle
from tests.helpers.recording_client import RecordingClient, make_request
from vastproxy.api.auth import KeyRing
from vastproxy.api.browsers import Browsers
from vastproxy.api.errors import ApiError
from vastproxy.api.front import Entrance, Front
from vastproxy.api.gate import Gate
from vastproxy.api.page_headers import PAGE_HEADERS
from vastproxy.api.proxy import Proxy
from vastproxy.services.fleet import Fleet
from vastproxy.services.http1.grammar import Header
from vastproxy.services.tasks import Tasks
from vastproxy.settings.model import ServerSettings

OURS = b"localhost:8080"
EVIL = (b"origin", b"https://evil.example")
CHAT = (b"origin", b"https://chat.example")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LISTED = ServerSettings(cors_origins=("https://chat.example",))


def refusal_of(
    settings: ServerSettings, host: bytes, *headers: Header, method: bytes = b"POST", **about: bool
) -> ApiError | None:
    return Gate(settings).refusal_for(
        method, [(b"host", host), *headers], **cast(Any, {"needs_key": False, **about})
    )


def code_of(settings: ServerSettings, host: bytes, *headers: Header, **about: Any) -> str | None:
    refusal = refusal_of(settings, host, *headers, **about)
    assert refusal is None or refusal.status == 403
    return None if refusal is None else refusal.code


# ── names ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"localhost:8080",
        b"LocalHost.:1",
        b"127.0.0.1",
        b"127.0.0.1:8080",
        b"127.1.2.3:80",
        b"[::1]",
        b"[::1]:8080",
        b"[::ffff:127.0.0.1]:8080",
        b"web.localhost:8080",
        b"",
    ],
)
def test_this_machine_is_asked_by_its_own_names(host: bytes) -> None:
    assert code_of(ServerSettings(), host) is None


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"evil.example:8080",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example",
        b"127.0.0.1.nip.io:8080",
        b"notlocalhost",
        b"192.168.0.1:8080",
        b"0.0.0.0:8080",
        b"[::]:8080",
        b"127.0.0.1:80:80",
        b"2130706433",
        b"\xff",
    ],
)
def test_a_name_that_a_page_has_given_itself_is_refused(host: bytes) -> None:
    """DNS rebinding: the page and the proxy are of one origin then, only the name is wrong."""
    same = (b"origin", b"http://" + host)
    assert code_of(ServerSettings(), host, same) == "host_not_allowed"
    assert code_of(ServerSettings(), host, method=b"GET", is_own=True) == "host_not_allowed"


def test_names_can_be_added() -> None:
    settings = ServerSettings(allowed_hosts=("GPU.example.",))
    assert code_of(settings, b"gpu.example:443") is None
    assert code_of(settings, b"x.gpu.example") == "host_not_allowed"
    assert code_of(ServerSettings(allowed_hosts=("*",)), b"anything") is None


@pytest.mark.parametrize(
    ("settings", "needs_key"),
    [
        (ServerSettings(), True),
        (ServerSettings(insecure=True), False),
        (ServerSettings(listen="0.0.0.0:8080", insecure=True), False),
    ],
)
def test_where_others_may_ask_any_name_will_do(settings: ServerSettings, needs_key: bool) -> None:
    assert code_of(settings, b"gpu.example", needs_key=needs_key) is None


def test_the_refusal_says_what_to_set() -> None:
    refused = refusal_of(ServerSettings(), b"evil.example")
    assert refused is not None
    assert "server.allowed_hosts" in refused.message
    assert "'evil.example'" in refused.message
    refused = refusal_of(ServerSettings(), OURS, EVIL)
    assert refused is not None
    assert "server.cors_origins" in refused.message
    assert "'https://evil.example'" in refused.message


# ── pages ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (b"localhost:8080", b"http://localhost:8080"),
        (b"LOCALHOST:8080", b"http://localhost:8080"),
        (b"127.0.0.1", b"http://127.0.0.1"),
        (b"127.0.0.1:80", b"http://127.0.0.1"),
        (b"localhost:443", b"https://localhost"),
        (b"localhost", b"https://localhost"),
        (b"[::1]:8080", b"http://[::1]:8080"),
    ],
)
def test_a_page_of_ours_may_ask(host: bytes, origin: bytes) -> None:
    assert code_of(ServerSettings(), host, (b"origin", origin), (b"sec-fetch-site", b"same-origin")) is None


@pytest.mark.parametrize(
    "headers",
    [
        [EVIL],
        [(b"origin", b"null")],
        [(b"origin", b"")],
        [(b"origin", b"http://localhost:3000")],
        [(b"origin", b"http://localhost:8080.evil.example")],
        [(b"origin", b"http://evil.example@localhost:8080")],
        [(b"origin", b"http://localhost:8080"), EVIL],
        [(b"origin", b"http://localhost:8080"), (b"origin", b"http://localhost:8080")],
        [(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"no-cors")],
        [(b"sec-fetch-site", b"same-site"), (b"sec-fetch-mode", b"no-cors")],
        [(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate")],
        [(b"sec-fetch-site", b"cross-site")],
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"OPTIONS"])
def test_a_page_of_another_site_may_not(headers: list[Header], method: bytes) -> None:
    assert code_of(ServerSettings(), OURS, *headers, method=method) == "origin_not_allowed"


def test_a_listed_page_may() -> None:
    assert code_of(LISTED, OURS, CHAT, (b"sec-fetch-site", b"cross-site")) is None
    assert code_of(LISTED, OURS, (b"origin", b"HTTPS://chat.example")) is None
    assert code_of(LISTED, OURS, EVIL) == "origin_not_allowed"
    assert code_of(ServerSettings(cors_origins=("*",)), OURS, EVIL) is None
    assert code_of(ServerSettings(cors_origins=("*",)), OURS, (b"sec-fetch-site", b"cross-site")) is None


def test_pages_of_an_installed_program_can_be_listed() -> None:
    settings = ServerSettings(cors_origins=("app://obsidian.md", "vscode-webview://1abc"))
    assert code_of(settings, OURS, (b"origin", b"app://obsidian.md")) is None
    assert code_of(settings, OURS, (b"origin", b"app://other.md")) == "origin_not_allowed"


def test_who_follows_a_link_to_a_page_of_ours_sees_it() -> None:
    link = [(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate")]
    assert code_of(ServerSettings(), OURS, *link, method=b"GET", is_own=True) is None
    assert code_of(ServerSettings(), OURS, *link, method=b"POST", is_own=True) == "origin_not_allowed"
    assert code_of(ServerSettings(), OURS, *link, method=b"GET") == "origin_not_allowed", "an engine's page"
    image = [(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"no-cors")]
    assert code_of(ServerSettings(), OURS, *image, method=b"GET", is_own=True) == "origin_not_allowed"


def test_programs_are_not_asked_where_they_come_from() -> None:
    assert code_of(ServerSettings(), OURS, (b"user-agent", b"curl")) is None
    assert code_of(ServerSettings(), OURS, (b"sec-fetch-site", b"none"), method=b"GET") is None


@pytest.mark.parametrize("needs_key", [True, False])
@pytest.mark.parametrize("settings", [ServerSettings(insecure=True), ServerSettings(cors_origins=("*",))])
def test_what_changes_the_proxy_is_never_for_any_page(settings: ServerSettings, needs_key: bool) -> None:
    """Not even where any page may ask for answers."""
    ask: dict[str, Any] = {"is_admin": True, "is_own": True, "needs_key": needs_key}
    assert code_of(settings, OURS, EVIL, **ask) == "origin_not_allowed"
    assert code_of(settings, OURS, (b"sec-fetch-site", b"cross-site"), **ask) == "origin_not_allowed"
    assert code_of(settings, OURS, (b"origin", b"http://localhost:8080"), **ask) is None
    assert code_of(settings, OURS, **ask) is None
    assert code_of(LISTED, OURS, CHAT, **ask) is None


def test_with_keys_pages_are_let_through_to_where_keys_are_asked_for() -> None:
    assert code_of(ServerSettings(), b"gpu.example", EVIL, needs_key=True) is None


@given(
    host=st.binary(max_size=40),
    origins=st.lists(st.binary(max_size=40), max_size=2),
    site=st.sampled_from([b"", b"none", b"same-origin", b"same-site", b"cross-site", b"x"]),
    method=st.sampled_from([b"GET", b"POST", b"\xff"]),
)
def test_whatever_is_sent_is_decided_and_can_be_answered(
    host: bytes, origins: list[bytes], site: bytes, method: bytes
) -> None:
    headers = [*((b"origin", origin) for origin in origins), (b"sec-fetch-site", site)]
    refused = refusal_of(ServerSettings(), host, *headers, method=method)
    if refused is not None:
        assert json.loads(refused.body())["error"]["code"] == refused.code
        assert refused.message.isprintable()


# ── on both ways in ────────────────────────────────────────────────────────────────────────────


class Ways:
    def __init__(self, scene: Scene, keys: KeyRing, settings: ServerSettings) -> None:
        self.scene = scene
        self.proxy = Proxy(cast(Fleet, scene.fleet), access_log=scene.access)
        self.tasks = Tasks("test")
        options: dict[str, Any] = {
            "proxy": self.proxy,
            "keys": keys,
            "tasks": self.tasks,
            "browsers": Browsers(settings),
            "gate": Gate(settings),
        }
        self.front = Front(self._ours, **options)
        self.entrance = Entrance(self.front, **options)
        self.asked: list[str] = []

    async def _ours(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        headers = [(b"Referrer-Policy", b"same-origin")]
        await send({"type": "http.response.start", "status": 299, "headers": headers})
        await send({"type": "http.response.body", "body": b"ours"})

    async def ask(
        self, way: str, method: bytes, target: bytes, *headers: Header, host: bytes = OURS
    ) -> tuple[int | None, dict[bytes, bytes], bytes]:
        lines = [(b"host", host), *headers]
        if way == "front":
            sent: list[Any] = []

            async def send(message: Any) -> None:
                sent.append(message)

            messages: asyncio.Queue[Any] = asyncio.Queue()
            messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})

            async def answer() -> None:
                await settle()
                if self.scene.streams and not sent:
                    self.scene.streams[-1].feed(OK)

            self.tasks.spawn(answer(), name="engine")
            scope = {"type": "http", "method": method.decode(), "path": target.decode(), "headers": lines}
            await self.front(scope, messages.get, send)
            body = b"".join(message.get("body", b"") for message in sent)
            return sent[0]["status"], dict(sent[0]["headers"]), body
        client = RecordingClient()
        request = make_request(method, target, headers=lines, host=host)
        self.entrance.handle(request, client).begin(b"", complete=True)
        await settle()
        if not client.ended:
            self.scene.streams[-1].feed(OK)
        return client.status, dict(client.headers), client.body

    async def aclose(self) -> None:
        await self.proxy.aclose()
        await self.tasks.aclose()


@pytest.fixture
async def make_ways(make_scene: Callable[..., Scene]) -> AsyncIterator[Callable[..., Ways]]:
    made: list[Ways] = []

    def make(settings: ServerSettings | None = None, keys: KeyRing | None = None) -> Ways:
        made.append(Ways(make_scene(), keys or KeyRing(), settings or ServerSettings()))
        return made[-1]

    yield make
    for ways in made:
        await ways.aclose()


BOTH = pytest.mark.parametrize("way", ["entrance", "front"])
TARGETS = pytest.mark.parametrize(
    "target",
    [b"/v1/chat/completions", b"/v1/models", b"/vastproxy/v1/backends", b"/metrics", b"/healthz", b"/x"],
)


@BOTH
@TARGETS
@pytest.mark.virtual_time
async def test_no_page_reaches_anything(make_ways: Callable[..., Ways], way: str, target: bytes) -> None:
    ways = make_ways()
    for host, headers, code in (
        (b"evil.example:8080", [(b"origin", b"http://evil.example:8080")], "host_not_allowed"),
        (b"evil.example:8080", [], "host_not_allowed"),
        (OURS, [EVIL], "origin_not_allowed"),
        (OURS, [(b"sec-fetch-site", b"cross-site")], "origin_not_allowed"),
    ):
        for method in (b"GET", b"POST", b"OPTIONS"):
            status, _, body = await ways.ask(way, method, target, *headers, host=host)
            assert (status, json.loads(body)["error"]["code"]) == (403, code)
    assert ways.asked == []
    assert ways.scene.streams == []


@BOTH
@TARGETS
@pytest.mark.virtual_time
async def test_a_program_on_this_machine_reaches_everything(
    make_ways: Callable[..., Ways], way: str, target: bytes
) -> None:
    ways = make_ways(LISTED)
    assert (await ways.ask(way, b"GET", target))[0] in (200, 299)
    status, headers, _ = await ways.ask(way, b"GET", target, CHAT)
    assert status in (200, 299)
    assert headers[b"access-control-allow-origin"] == CHAT[1]


@BOTH
@pytest.mark.virtual_time
async def test_what_is_signed_may_come_by_any_name(make_ways: Callable[..., Ways], way: str) -> None:
    status, _, _ = await make_ways().ask(way, b"POST", b"/webhooks/vastai", host=b"hooks.example")
    assert status == 299


@BOTH
@pytest.mark.virtual_time
async def test_with_keys_only_what_changes_the_proxy_looks_at_the_page(
    make_ways: Callable[..., Ways], way: str
) -> None:
    ways = make_ways(keys=KeyRing(["sk"]))
    key = (b"authorization", b"Bearer sk")
    assert (await ways.ask(way, b"GET", b"/vastproxy/v1/backends", key, EVIL, host=b"gpu.example"))[0] == 299
    status, _, body = await ways.ask(
        way, b"POST", b"/vastproxy/v1/backends/1/drain", key, EVIL, host=b"gpu.example"
    )
    assert (status, json.loads(body)["error"]["code"]) == (403, "origin_not_allowed")
    assert (await ways.ask(way, b"POST", b"/v1/x", host=b"gpu.example"))[0] == 401


@pytest.mark.virtual_time
async def test_a_head_that_was_let_in_is_not_looked_at_again(make_ways: Callable[..., Ways]) -> None:
    """On a kept connection the check costs nothing: only a head of its own is looked at."""
    ways = make_ways()
    seen: list[bytes] = []

    class Counting(Gate):
        def refusal(self, method: bytes, *args: Any, **about: Any) -> ApiError | None:
            seen.append(method)
            return super().refusal(method, *args, **about)

    entrance = Entrance(
        ways.front,
        proxy=ways.proxy,
        keys=KeyRing(),
        tasks=ways.tasks,
        gate=Counting(ServerSettings()),
    )
    request = make_request(headers=[(b"host", OURS)], host=OURS)
    refused = make_request(headers=[(b"host", OURS), EVIL], host=OURS)
    for _ in range(3):
        for each in (request, refused):
            client = RecordingClient()
            entrance.handle(each, client).begin(b"", complete=True)
            await settle()
            if not client.ended:
                ways.scene.streams[-1].feed(OK)
            assert client.status == (200 if each is request else 403)
    assert len(seen) == 1 + 3, "who is let in is looked at once, who is refused each time"


# ── what our pages say ─────────────────────────────────────────────────────────────────────────


@BOTH
@pytest.mark.parametrize("target", [b"/healthz", b"/v1/models", b"/vastproxy/v1/backends", b"/metrics"])
@pytest.mark.virtual_time
async def test_our_pages_are_not_framed_kept_or_guessed_at(
    make_ways: Callable[..., Ways], way: str, target: bytes
) -> None:
    ways = make_ways()
    for headers in ([], [EVIL]):
        _, said, _ = await ways.ask(way, b"GET", target, *headers)
        said = {name.lower(): value for name, value in said.items()}
        expected = dict(PAGE_HEADERS)
        if not headers:
            expected[b"referrer-policy"] = b"same-origin"  # the page's own word counts
        assert {name: said[name] for name in expected} == expected


@pytest.mark.virtual_time
async def test_answers_of_engines_are_as_they_are(make_ways: Callable[..., Ways]) -> None:
    _, said, _ = await make_ways().ask("entrance", b"GET", b"/v1/x")
    assert not {name for name, _ in PAGE_HEADERS} & {name.lower() for name in said}

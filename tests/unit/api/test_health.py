"""The pages of monitoring: what they say, to whom, and that they are answered in the turn in which they are asked."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.types import Message

from tests.helpers.builders import make_instance
from tests.helpers.fleet_bench import FleetBench
from tests.helpers.recording_client import RecordingClient, make_request
from vastproxy.api.app import create_app
from vastproxy.api.front import Entrance
from vastproxy.services.access.records import KeyBook, KeyLimits, Right
from vastproxy.settings import Settings
from vastproxy.vastai import User, VastUnavailable

KEY = (b"authorization", b"Bearer sk-right")
PAGES = (b"/healthz", b"/livez", b"/readyz")


class Stage:
    """A fleet of instances in memory behind the whole application, which is asked as our own server asks it."""

    def __init__(self, bench: FleetBench, app: Starlette) -> None:
        self.bench = bench
        self.app = app
        self.entrance: Entrance = app.state.entrance

    def ask(self, target: bytes, *headers: tuple[bytes, bytes], method: bytes = b"GET") -> RecordingClient:
        """What is answered before anything else has had a turn."""
        client = RecordingClient()
        request = make_request(method=method, target=target, headers=list(headers), host=b"localhost")
        self.entrance.handle(request, client).begin(b"", complete=True)
        return client

    def report(self, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.ask(b"/healthz", *headers).body)
        return report


def settings(**server: Any) -> Settings:
    return Settings.model_validate({"server": server, "fleet": {"label": "none"}})


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    bench = FleetBench(label="none")
    async with bench.fleet:
        yield Stage(bench, create_app(settings(api_keys=["sk-right"]), fleet=bench.fleet))


async def test_all_three_are_answered_in_the_turn_in_which_they_are_asked(stage: Stage) -> None:
    """However much else waits for the loop, it is not in between: no task, no router, no second turn."""
    await stage.bench.serve(1)
    for path in PAGES:
        client = stage.ask(path)
        assert (client.status, client.complete) == (200, True)
        assert client.header(b"content-type") == b"application/json"
        assert client.header(b"cache-control") == b"no-store"
        head = stage.ask(path, method=b"HEAD")
        assert (head.status, head.complete, head.body) == (200, True, b"")
        assert head.header(b"content-length") == client.header(b"content-length")


async def test_the_whole_body(stage: Stage) -> None:
    bench = stage.bench
    bench.account.user = User(id=7, credit=10.0)
    await bench.serve(1, 2)
    bench.fleet.account.listed([make_instance(id=1, dph_total=0.25, instance={"totalHour": 0.25})])
    await bench.fleet.account.read()
    lease = bench.lease()
    report = stage.report(KEY)
    bench.release(lease)
    assert (report["status"], report["reason"]) == ("healthy", None)
    assert report["vast_api"]["status"] == "healthy"
    assert report["vast_api"]["latency_ms"] >= 0
    assert report["vast_api"]["error"] is None
    assert report["account"] == {"credit_dollars": 10.0, "dollars_per_hour": 0.25, "hours_left": 40.0}
    assert (report["backends"]["total"], report["backends"]["healthy"]) == (2, 2)
    assert report["requests"] == {"in_flight": 1, "waiting": 0}
    assert report["uptime_s"] >= 0
    assert report["version"]


async def test_money_is_told_to_those_who_bring_a_key(stage: Stage) -> None:
    """Everybody may ask how it is, and the internet need not know what is in the account."""
    assert stage.report()["account"] is None
    assert stage.report((b"authorization", b"Bearer wrong"))["account"] is None
    assert stage.report(KEY)["account"] is not None


async def test_a_key_for_inference_alone_is_told_no_money(tmp_path: Path) -> None:
    """It may not see the proxy, nor what is in the account, on either way in."""
    book, made = KeyBook(), {}
    for right in Right:
        book, _, made[right] = book.create(right, rights=frozenset({right}), limits=KeyLimits(), now=0.0)
    (tmp_path / "keys.json").write_text(book.dump())
    bench = FleetBench(label="none")
    async with bench.fleet:
        app = create_app(settings(keys_file=str(tmp_path / "keys.json")), fleet=bench.fleet)
        for right, key in made.items():
            header = (b"authorization", f"Bearer {key}".encode())
            told = Stage(bench, app).report(header)["account"]
            other = json.loads((await through_asgi(app, "/healthz", (header,)))[1])["account"]
            assert (told is not None, other is not None) == (right is Right.ADMIN,) * 2


async def test_where_no_key_is_needed_money_is_told_to_all() -> None:
    bench = FleetBench(label="none")
    async with bench.fleet:
        stage = Stage(bench, create_app(settings(), fleet=bench.fleet))
        assert set(stage.report()["account"]) == {"credit_dollars", "dollars_per_hour", "hours_left"}


async def test_unhealthy_is_503_with_a_reason_and_alive_all_the_same(stage: Stage) -> None:
    stage.bench.account.list_error = VastUnavailable("vast.ai answered 502", "bad_gateway")
    await stage.bench.fleet.sync()
    assert [stage.ask(path).status for path in PAGES] == [503, 200, 503]
    report = stage.report()
    assert report["status"] == "unhealthy"
    assert "502" in report["reason"]
    assert report["vast_api"] == {"status": "unhealthy", "latency_ms": None, "error": "vast.ai answered 502"}


async def test_other_methods_are_the_applications_business(stage: Stage) -> None:
    client = stage.ask(b"/healthz", method=b"DELETE")
    async with asyncio.timeout(10):
        while not client.complete:
            await asyncio.sleep(0)
    assert client.status == 405


async def test_browsers_are_told_what_they_are_told_elsewhere() -> None:
    bench = FleetBench(label="none")
    async with bench.fleet:
        made = create_app(settings(cors_origins=["https://status.example"]), fleet=bench.fleet)
        client = Stage(bench, made).ask(b"/livez", (b"origin", b"https://status.example"))
        assert client.header(b"access-control-allow-origin") == b"https://status.example"


async def test_nothing_is_made_of_a_body_or_of_one_who_leaves(stage: Stage) -> None:
    client = RecordingClient()
    handler = stage.entrance.handle(make_request(target=b"/livez"), client)
    handler.begin(b"some", complete=False)
    handler.client_data(b"more", complete=True)
    handler.client_writable()
    handler.client_left()
    assert (client.status, client.calls.count("respond")) == (200, 1)


@pytest.mark.parametrize(("key", "knows"), [((), False), ((KEY,), True)])
async def test_another_server_is_answered_the_same(
    stage: Stage, key: tuple[tuple[bytes, bytes], ...], knows: bool
) -> None:
    """Through ASGI, for those who run the application under a server of their own."""
    await stage.bench.serve(1)
    status, body = await through_asgi(stage.app, "/healthz", key)
    report = json.loads(body)
    assert (status, report["status"], report["account"] is not None) == (200, "healthy", knows)
    assert (await through_asgi(stage.app, "/readyz", ()))[0] == 200


async def through_asgi(
    app: Starlette, path: str, headers: tuple[tuple[bytes, bytes], ...]
) -> tuple[int, bytes]:
    """One request as any ASGI server brings it."""
    sent: list[Message] = []
    scope = {
        **{"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""},
        **{"headers": [(b"host", b"h"), *headers], "scheme": "http", "http_version": "1.1"},
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

"""`POST /webhooks/vastai`, driven in memory: what is answered, and what the fleet hears."""

import json
import logging
from collections.abc import MutableMapping
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.routing import Route

from tests.unit.vastai.support import data
from vastproxy.api.webhooks import WebhookEndpoint, make_inbox
from vastproxy.settings import SettingsError
from vastproxy.settings.webhooks import WebhookSettings
from vastproxy.vastai.handlers.events import Decision, Verdict
from vastproxy.vastai.handlers.webhooks import MAX_BODY_BYTES, sign

SECRET = "fixture-webhook-secret"
TOKEN = "t0ken-of-instances"
NOW = 1_786_300_000


class Fleet:
    """Serves two instances, and remembers what it heard."""

    backend_ids = (48001006, 48001001)

    def __init__(self) -> None:
        self.heard: list[Decision] = []

    def hear(self, decision: Decision) -> None:
        self.heard.append(decision)


class Site:
    """The endpoint in an application, and a clock."""

    def __init__(self, **settings: Any) -> None:
        self.fleet = Fleet()
        self.now = float(NOW)
        given = {"secret": SecretStr(SECRET), "token": SecretStr(TOKEN), **settings}
        inbox = make_inbox(WebhookSettings(**given), environ={})
        endpoint = WebhookEndpoint(self.fleet, inbox, clock=lambda: self.now)
        self.app = Starlette(routes=[Route("/webhooks/vastai", endpoint.receive, methods=["POST"])])
        self.pieces_read = 0

    async def post(
        self,
        headers: list[tuple[bytes, bytes]],
        *pieces: bytes,
        ends: str = "http.request",
        method: str = "POST",
    ) -> tuple[int, dict[str, Any], dict[bytes, bytes]]:
        """Status, JSON and headers of the answer to a body that comes in pieces."""
        messages: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
        ]
        messages.append({"type": ends, "body": b"", "more_body": False})
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            self.pieces_read += 1
            return messages.pop(0)

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        scope = {
            **{"type": "http", "method": method, "path": "/webhooks/vastai", "raw_path": b"/webhooks/vastai"},
            **{
                "headers": headers,
                "query_string": b"",
                "root_path": "",
                "scheme": "http",
                "http_version": "1.1",
            },
        }
        await self.app(scope, receive, send)
        body = b"".join(message.get("body", b"") for message in sent[1:])
        is_json = body.startswith(b"{")
        return sent[0]["status"], json.loads(body) if is_json else {}, dict(sent[0]["headers"])


def vector(name: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    recorded = data(f"webhook_event_{name}.json")
    headers = [(key.lower().encode(), value.encode()) for key, value in recorded["headers"].items()]
    return headers, recorded["raw_body"].encode()


BEARER = [(b"authorization", f"Bearer {TOKEN}".encode())]


async def test_an_outbid_makes_the_backend_suspect(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    site = Site()
    headers, body = vector("outbid")
    status, answer, _ = await site.post(headers, body[:10], body[10:])
    assert (status, answer) == (200, {"received": True, "duplicate": False, "verdict": "suspect"})
    assert site.fleet.heard == [Decision(Verdict.SUSPECT, (48001006,), "vast.ai says: outbid")]
    assert "event: vast.ai says: outbid → suspect 48001006" in caplog.text
    assert SECRET not in caplog.text


async def test_the_same_event_is_received_again_and_nothing_happens() -> None:
    site = Site()
    headers, body = vector("outbid")
    await site.post(headers, body)
    status, answer, _ = await site.post(headers, body)
    assert (status, answer) == (200, {"received": True, "duplicate": True, "verdict": "nothing"})
    assert len(site.fleet.heard) == 1


async def test_a_test_event_is_received_and_nothing_happens() -> None:
    site = Site()
    headers, body = vector("test")
    assert (await site.post(headers, body))[:2] == (
        200,
        {"received": True, "duplicate": False, "verdict": "nothing"},
    )
    assert site.fleet.heard == []


async def test_an_unknown_event_leads_to_a_poll() -> None:
    site, body = Site(), b'{"notif_type":"brand_new"}'
    headers = [
        (b"x-vast-timestamp", str(NOW).encode()),
        (b"x-vast-signature-256", sign(SECRET, NOW, body).encode()),
    ]
    assert (await site.post(headers, body))[1]["verdict"] == "poll"
    assert site.fleet.heard == [Decision(Verdict.POLL, (), "vast.ai says: brand_new")]


async def test_an_instance_that_has_come_up_is_looked_at() -> None:
    site = Site()
    await site.post(BEARER, json.dumps(data("onstart_callback_event.json")).encode())
    assert site.fleet.heard == [Decision(Verdict.LOOK, (48001001,), "an instance says: onstart")]


async def refusal(site: Site, headers: list[tuple[bytes, bytes]], *pieces: bytes) -> tuple[int, str]:
    """Status and code of a refusal, which is in the shape of our API's errors."""
    status, answer, fields = await site.post(headers, *pieces)
    assert site.fleet.heard == []
    error = answer["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert error["message"].endswith((".", "?"))
    assert error["type"] == ("authentication_error" if status == 401 else "invalid_request_error")
    assert (b"www-authenticate" in fields) == (status == 401)
    return status, error["code"]


async def test_refusals() -> None:
    site = Site()
    headers, body = vector("outbid")
    assert await refusal(site, [], body) == (401, "invalid_signature")
    assert await refusal(site, headers, body + b" ") == (401, "invalid_signature")
    assert await refusal(site, BEARER, b"no json") == (400, "invalid_event")
    site.now += 301
    assert await refusal(site, headers, body) == (401, "stale_timestamp")
    assert await refusal(Site(secret=None, token=None), headers, body) == (404, "webhooks_off")


async def test_a_body_that_is_too_large_is_not_read_to_its_end() -> None:
    site, piece = Site(), b" " * (MAX_BODY_BYTES // 4)
    assert await refusal(site, BEARER, *[piece] * 100) == (413, "request_too_large")
    assert site.pieces_read == 5


async def test_a_sender_that_leaves_is_nobodys_failure() -> None:
    site = Site()
    status, answer, _ = await site.post(BEARER, b'{"event":', ends="http.disconnect")
    assert (status, answer) == (400, {})
    assert site.fleet.heard == []


async def test_refusals_are_written_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever can reach us can be refused as often as he likes, and shall not fill a disk with it."""
    site = Site()
    for _ in range(100):
        await site.post([], b"{}")
    site.now += 61
    await site.post([(b"authorization", b"Bearer s3cret-of-somebody")], b"{}")
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(" events")[0] for line in lines] == ["1", "100"]
    assert "s3cret" not in caplog.text


async def test_only_posts_are_events() -> None:
    status, _, _ = await Site().post(BEARER, b"{}", method="GET")
    assert status == 405


def test_references_to_secrets_are_followed() -> None:
    settings = WebhookSettings(secret=SecretStr("env:HOOK"))
    assert make_inbox(settings, environ={"HOOK": "x"}).is_open
    with pytest.raises(SettingsError, match=r"webhooks\.secret: the environment variable HOOK"):
        make_inbox(settings, environ={})
    assert not make_inbox(WebhookSettings(), environ={}).is_open


def test_token_and_secret_must_differ() -> None:
    same = WebhookSettings(secret=SecretStr("same-s3cret"), token=SecretStr("env:SAME"))
    with pytest.raises(SettingsError, match=r"webhooks\.token: expected another one") as caught:
        make_inbox(same, environ={"SAME": "same-s3cret"})
    assert "s3cret" not in str(caught.value)

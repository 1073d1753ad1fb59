"""`vastproxy webhooks`, asked of HTTP servers that answer as vast.ai and a proxy do."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.unit.vastai.support import data
from vastproxy.cli.asking import NoProxyThere
from vastproxy.cli.webhooks import PATH, WebhookProblem, receiving, wanted_keys, webhooks_app
from vastproxy.settings import SettingsError
from vastproxy.vastai import VastProtocolError, VastRejected
from vastproxy.vastai.handlers.webhooks import Inbox
from vastproxy.vastai.webhooks import NotificationType

SECRET = "fixture-webhook-secret"
TARGET = "https://proxy.example.com/webhooks/vastai"


@dataclass
class Peer:
    """An HTTP server with fixed answers by method and path."""

    answers: dict[tuple[str, str], tuple[int, object]]
    url: str = ""
    #: Method, path, headers, body of every request.
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def sent(self, method: str, path: str) -> list[Any]:
        return [json.loads(body) for verb, where, _, body in self.seen if (verb, where) == (method, path)]


@pytest.fixture
def serve() -> Iterator[Callable[[dict[tuple[str, str], tuple[int, object]]], Peer]]:
    servers: list[ThreadingHTTPServer] = []

    def start(answers: dict[tuple[str, str], tuple[int, object]]) -> Peer:
        peer = Peer(answers)

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                path = self.path.partition("?")[0]
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                peer.seen.append((self.command, path, dict(self.headers), body))
                status, content = peer.answers.get((self.command, path), (404, {"error": "no such page"}))
                text = content.encode() if isinstance(content, str) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        peer.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return peer

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


Serve = Callable[[dict[tuple[str, str], tuple[int, object]]], Peer]


@pytest.fixture
def run(workplace: Path) -> Callable[..., Result]:
    def command(*arguments: str, peer: Peer | None = None, typed: str = "", **environ: str) -> Result:
        if peer is not None:
            environ = {
                "VAST_URL": peer.url,
                "VAST_API_KEY": "k3y",
                "VASTPROXY_VAST__MIN_INTERVAL_SCALE": "0",
                "VASTPROXY_VAST__RETRIES__ATTEMPTS": "1",
                **environ,
            }
        return CliRunner().invoke(webhooks_app, arguments, env=environ, input=typed)

    return command


Run = Callable[..., Result]
HOOKS = ("GET", "/api/v0/webhooks/")
CREATE = ("POST", "/api/v0/webhooks/")
ACCOUNT: dict[tuple[str, str], tuple[int, object]] = {
    HOOKS: (200, {"success": True, "webhooks": []}),
    ("GET", "/api/v0/notification-types/"): (200, data("notification_types.json")),
    CREATE: (200, data("webhook_create_ok.json")),
}


# --- list ------------------------------------------------------------------------------------------------


def test_webhooks_are_listed_without_secrets(run: Run, serve: Serve) -> None:
    rows = data("webhooks_list.json")
    rows["webhooks"][0]["webhook_secret"] = SECRET
    vast = serve({HOOKS: (200, rows)})
    result = run("list", peer=vast)
    assert result.exit_code == 0, result.output
    assert "42  https://proxy.example.com/hooks/vast  vastproxy" in result.output
    assert "client:outbid" in result.output
    [row] = json.loads(run("list", "--json", peer=vast).output)
    assert (row["id"], row["event_types"][0]) == (42, "client:outbid")
    assert SECRET not in result.output + json.dumps(row)
    assert vast.seen[0][2]["Authorization"] == "Bearer k3y"


def test_an_account_without_webhooks_says_how_to_make_one(run: Run, serve: Serve) -> None:
    result = run("list", peer=serve(ACCOUNT))
    assert "no webhooks; make one with: vastproxy webhooks create https://" in result.output


# --- create ----------------------------------------------------------------------------------------------


def test_a_webhook_is_made_for_what_is_of_use_and_its_secret_is_shown(run: Run, serve: Serve) -> None:
    vast = serve(ACCOUNT)
    result = run("create", "https://proxy.example.com", peer=vast)
    assert result.exit_code == 0, result.output
    [sent] = vast.sent(*CREATE)
    assert sent["webhook_url"] == TARGET
    assert sent["name"] == "vastproxy"
    assert set(sent["event_types"]) >= {"client:outbid", "client:instance_stopped", "client:instance_offline"}
    assert "client:payment_receipt" not in sent["event_types"]
    assert "  VASTPROXY_WEBHOOKS__SECRET=fixture-webhook-secret\n" in result.output
    assert "vastproxy webhooks test --id 42" in result.output


def test_name_and_events_can_be_chosen_and_json_has_the_secret(run: Run, serve: Serve) -> None:
    vast = serve(ACCOUNT)
    arguments = ["--name", "mine", "--event", "outbid", "--event", "client:low_credit", "--json"]
    result = run("create", "https://proxy.example.com/elsewhere", *arguments, peer=vast)
    assert json.loads(result.output)["secret"] == SECRET
    assert vast.sent(*CREATE) == [
        {
            "name": "mine",
            "webhook_url": "https://proxy.example.com/elsewhere",
            "event_types": ["client:outbid", "client:low_credit"],
        }
    ]


def test_the_secret_goes_into_a_file_of_its_owner(run: Run, serve: Serve, workplace: Path) -> None:
    file = workplace / "secret"
    result = run("create", "https://proxy.example.com", "--secret-file", str(file), peer=serve(ACCOUNT))
    assert result.exit_code == 0, result.output
    assert file.read_text() == f"{SECRET}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert SECRET not in result.output
    assert f"set webhooks.secret to file:{file}" in "".join(result.output.splitlines())
    assert [one.name for one in workplace.iterdir()] == ["secret"]


def test_a_file_that_cannot_be_written_is_noticed_before_a_secret_is_made(
    run: Run, serve: Serve, workplace: Path
) -> None:
    vast = serve(ACCOUNT)
    result = run(
        "create", "https://p.example.com", "--secret-file", str(workplace / "no" / "file"), peer=vast
    )
    assert isinstance(result.exception, WebhookProblem)
    assert "nothing was made" in str(result.exception)
    assert vast.sent(*CREATE) == []


def test_a_failure_leaves_the_file_as_it_was(run: Run, serve: Serve, workplace: Path) -> None:
    file = workplace / "secret"
    file.write_text("old")
    vast = serve(
        {**ACCOUNT, CREATE: (200, {"success": False, "error": "too_many_webhooks", "msg": "At most 4."})}
    )
    result = run("create", "https://p.example.com", "--secret-file", str(file), peer=vast)
    assert isinstance(result.exception, VastRejected)
    assert file.read_text() == "old"
    assert [one.name for one in workplace.iterdir()] == ["secret"]


def test_a_second_webhook_to_the_same_address_is_not_made(run: Run, serve: Serve) -> None:
    there = {"id": 7, "webhook_url": TARGET}
    vast = serve({**ACCOUNT, HOOKS: (200, {"success": True, "webhooks": [there]})})
    result = run("create", "proxy.example.com", peer=vast)
    assert "vastproxy webhooks rotate 7" in str(result.exception)
    assert vast.sent(*CREATE) == []


def test_an_answer_without_a_secret_says_what_to_do(run: Run, serve: Serve) -> None:
    vast = serve({**ACCOUNT, CREATE: (200, {"success": True, "webhook": {"id": 42}})})
    result = run("create", "https://p.example.com", peer=vast)
    assert isinstance(result.exception, VastProtocolError)
    assert "rotate the secret" in str(result.exception)


@pytest.mark.parametrize(
    ("typed", "sent_to"),
    [
        ("https://p.example.com", f"https://p.example.com{PATH}"),
        ("https://p.example.com/", f"https://p.example.com{PATH}"),
        (" p.example.com:8443 ", f"https://p.example.com:8443{PATH}"),
        ("https://p.example.com/a/b?c=d", "https://p.example.com/a/b?c=d"),
    ],
)
def test_an_address_without_a_path_gets_ours(typed: str, sent_to: str) -> None:
    assert receiving(typed) == sent_to


@pytest.mark.parametrize(
    "typed", ["http://p.example.com", "ftp://x", "", "https://", "https://u:p4ss@h", "https://[1"]
)
def test_what_vast_ai_cannot_send_to_is_refused(typed: str) -> None:
    with pytest.raises(SettingsError, match="expected https://host") as caught:
        receiving(typed)
    assert "p4ss" not in str(caught.value)


def test_only_what_vast_ai_offers_can_be_subscribed_to() -> None:
    types = [NotificationType("client:outbid", "outbid"), NotificationType("host:x", "instance_stopped")]
    assert wanted_keys(types, []) == ["client:outbid"]
    assert wanted_keys(types, ["outbid", "client:outbid"]) == ["client:outbid"]
    with pytest.raises(SettingsError, match=r"--event instance_stopped: .* it does of outbid"):
        wanted_keys(types, ["instance_stopped"])


# --- rotate, delete --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        {"success": True, "webhook_secret": "n3w"},
        {"success": True, "webhook": {"id": 42, "webhook_secret": "n3w"}},
    ],
)
def test_a_new_secret_is_shown(run: Run, serve: Serve, answer: object) -> None:
    vast = serve({("POST", "/api/v0/webhooks/42/rotate-secret/"): (200, answer)})
    assert "VASTPROXY_WEBHOOKS__SECRET=n3w" in run("rotate", "42", peer=vast).output


def test_deleting_asks_first(run: Run, serve: Serve) -> None:
    where = ("DELETE", "/api/v0/webhooks/42/")
    vast = serve({where: (200, {"success": True})})
    assert "nothing was changed" in str(run("delete", "42", peer=vast, typed="n\n").exception)
    assert vast.seen == []
    assert "webhook 42 is deleted" in run("delete", "42", "--yes", peer=vast).output
    assert len(vast.seen) == 1


# --- test ------------------------------------------------------------------------------------------------


def test_a_test_event_is_signed_as_vast_ai_signs(run: Run, serve: Serve) -> None:
    proxy = serve({("POST", PATH): (200, {"received": True, "verdict": "nothing"})})
    result = run("test", proxy.url, VASTPROXY_WEBHOOKS__SECRET=SECRET)
    assert result.exit_code == 0, result.output
    assert f"{proxy.url}{PATH} took the test event in " in result.output
    [(_, _, headers, body)] = proxy.seen
    assert "Authorization" not in headers
    fields = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    sent_at = int(headers["X-Vast-Timestamp"])
    notice = Inbox(secret=SECRET, token=None).take(fields, body, now=sent_at)
    assert notice is not None
    assert (notice.slug, notice.event_id) == ("webhook_test", headers["X-Vast-Event-Id"])


def test_it_goes_where_the_settings_say_that_the_proxy_listens(run: Run, serve: Serve) -> None:
    proxy = serve({("POST", PATH): (200, {"received": True})})
    listen = proxy.url.removeprefix("http://")
    assert run("test", VASTPROXY_WEBHOOKS__SECRET=SECRET, LISTEN_ADDR=listen).exit_code == 0
    assert run("test", proxy.url + PATH, VASTPROXY_WEBHOOKS__SECRET=SECRET).exit_code == 0


def test_a_refusal_says_why(run: Run, serve: Serve) -> None:
    refusal = {"error": {"message": "The signature is wrong\x1b[31m.", "code": "invalid_signature"}}
    proxy = serve({("POST", PATH): (401, refusal)})
    error = run("test", proxy.url, VASTPROXY_WEBHOOKS__SECRET=SECRET).exception
    assert isinstance(error, WebhookProblem)
    assert "refuses the test event (HTTP 401): The signature is wrong" in str(error)
    assert "\x1b" not in str(error)


@pytest.mark.parametrize("answer", [(200, "<html>"), (200, {"ok": True}), (404, {"detail": "Not Found"})])
def test_somebody_else_who_answers_is_no_proxy(run: Run, serve: Serve, answer: tuple[int, object]) -> None:
    proxy = serve({("POST", PATH): answer})
    assert isinstance(run("test", proxy.url, VASTPROXY_WEBHOOKS__SECRET=SECRET).exception, NoProxyThere)


def test_without_a_secret_nothing_is_sent(run: Run, serve: Serve) -> None:
    proxy = serve({})
    error = run("test", proxy.url).exception
    assert isinstance(error, SettingsError)
    assert "webhooks.secret is not set" in str(error)
    assert proxy.seen == []


def test_vast_ai_can_be_asked_to_send_one(run: Run, serve: Serve) -> None:
    where = ("POST", "/api/v0/webhooks/42/test/")
    vast = serve({where: (200, {"success": True})})
    assert "vast.ai sends a test event to webhook 42" in run("test", "--id", "42", peer=vast).output
    assert len(vast.seen) == 1
    assert isinstance(run("test", "http://h", "--id", "42", peer=vast).exception, SettingsError)

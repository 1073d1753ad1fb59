"""`vastproxy status`, asked of an HTTP server that answers as a proxy does."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.certificates import make_certificate
from tests.helpers.deaf import deaf_port
from tests.unit.cli.conftest import Answers, Peer, Run
from vastproxy.cli.asking import NobodyThere, NoProxyThere, asking, base_url, url_of_listen
from vastproxy.cli.status import ask
from vastproxy.settings import SettingsError

StartPeer = Callable[..., Peer]
GPU = {"index": 0, "name": "H100", "utilization_percent": 80, "temperature_c": 60, "memory_used_mib": 1}
BACKEND: dict[str, Any] = {
    "id": 101,
    "state": "healthy",
    "since_s": 12.5,
    "path": "direct",
    "engine": "sglang",
    "port": 18000,
    "models": ["Qwen/Qwen3-32B"],
    "gpu_name": "H100 SXM",
    "num_gpus": 2,
    "gpus": [GPU, {**GPU, "utilization_percent": 90, "temperature_c": 71}, {"utilization_percent": None}],
    "in_flight": 7,
    "requests": 900,
    "failures": 3,
    "hourly_cost": 2.5,
    "label": "x",
    "error": None,
}
LAME = {
    "id": 102,
    "state": "unhealthy",
    "error": "connection refused\nport 18000",
    "gpus": None,
    "models": None,
}


def healthz(status: str = "healthy", **more: Any) -> dict[str, Any]:
    return {
        "status": status,
        "version": "9.9",
        "uptime_s": 7_380,
        "vast_api": {"status": "healthy", "latency_ms": 123.4, "error": None},
        "backends": {"total": 2, "healthy": 1, "unhealthy": 1, "connecting": 0},
        "reason": None,
        **more,
    }


def proxy(health: object, *backends: dict[str, Any], code: int = 200, listing: int = 200) -> Answers:
    rows = {"backends": list(backends)} if listing == 200 else {"error": {"message": "no"}}
    return {"/healthz": (code, health), "/vastproxy/v1/backends": (listing, rows)}


def test_a_proxy_that_serves(run: Run, peer: StartPeer) -> None:
    there = peer(proxy(healthz("degraded", reason="1 of 2 backends can serve"), BACKEND, LAME))
    result = run("status", there.url)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == f"degraded  {there.url}  vastproxy 9.9, up 2 h 3 min"
    assert lines[1:4] == [
        "  1 of 2 backends can serve",
        "  vast.ai API: healthy, 123 ms",
        "  backends: 2 in total (1 healthy, 1 unhealthy)",
    ]
    row = "101 healthy direct 2x H100 SXM 85 % 71 °C 7 3 sglang:18000 Qwen/Qwen3-32B"
    assert row in " ".join(result.output.split())
    assert "connection refused port 18000" in " ".join(result.output.split())
    assert max(map(len, lines[4:])) <= 80


@pytest.mark.parametrize(
    ("account", "line"),
    [
        (
            {"credit_dollars": 37.42, "dollars_per_hour": 0.5217, "hours_left": 71.7},
            "  account: $37.42 left, $0.522 per hour, lasts 2 d 23 h",
        ),
        ({"credit_dollars": None, "dollars_per_hour": 0.5, "hours_left": None}, "  account: $0.500 per hour"),
        ({"credit_dollars": "much", "dollars_per_hour": [], "hours_left": {}}, None),
        (None, None),
    ],
)
def test_what_is_left_on_the_account(run: Run, peer: StartPeer, account: object, line: str | None) -> None:
    result = run("status", peer(proxy(healthz(account=account))).url)
    found = [one for one in result.output.splitlines() if "account:" in one]
    assert found == ([] if line is None else [line])


def test_a_proxy_that_does_not_serve(run: Run, peer: StartPeer) -> None:
    api = {"status": "unhealthy", "latency_ms": None, "error": "no key"}
    result = run("status", peer(proxy(healthz("unhealthy", vast_api=api), code=503)).url)
    assert result.exit_code == 1
    assert result.output.startswith("unhealthy")
    assert "vast.ai API: unhealthy, no key" in result.output


@pytest.mark.parametrize("status", ["healthy", "unhealthy"])
def test_json_has_both_answers(run: Run, peer: StartPeer, status: str) -> None:
    there = peer(proxy(healthz(status), BACKEND))
    result = run("status", "--json", there.url)
    assert json.loads(result.output) == {
        "url": there.url,
        "health": healthz(status),
        "backends": [BACKEND],
        "note": None,
    }
    assert result.exit_code == (0 if status == "healthy" else 1)


@pytest.mark.parametrize("health", [{}, {"status": None, "backends": [], "vast_api": 7, "uptime_s": "x"}])
@pytest.mark.parametrize(
    "rows", [[{}], [7, None], "nonsense", None, [{"gpus": [1], "models": 5, "id": None}]]
)
def test_missing_and_strange_keys_do_no_harm(run: Run, peer: StartPeer, health: object, rows: object) -> None:
    """An older or newer proxy is shown as far as it is understood."""
    there = peer({"/healthz": (200, health), "/vastproxy/v1/backends": (200, {"backends": rows})})
    result = run("status", there.url)
    assert result.exit_code == 1, "nobody said that it can serve"
    assert result.output.startswith("unknown")


def test_the_first_inbound_key_is_sent(run: Run, peer: StartPeer, workplace: Path) -> None:
    (workplace / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    there = peer(proxy(healthz(), BACKEND))
    run("status", there.url, VASTPROXY_API_KEYS="env:ONE,two", ONE="first")
    assert {authorization for _, authorization in there.seen} == {"Bearer first"}


def test_without_a_key_nothing_is_sent(run: Run, peer: StartPeer, workplace: Path) -> None:
    (workplace / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    there = peer(proxy(healthz()))
    run("status", there.url)
    assert {authorization for _, authorization in there.seen} == {None}


@pytest.mark.parametrize(
    ("code", "note"), [(401, "set VASTPROXY_API_KEYS"), (404, "does not list its backends (HTTP 404)")]
)
def test_a_proxy_that_does_not_list_its_backends(run: Run, peer: StartPeer, code: int, note: str) -> None:
    result = run("status", peer(proxy(healthz(), listing=code)).url)
    assert result.exit_code == 0
    assert note in result.output


@pytest.mark.parametrize("answer", [(200, "<html>"), (200, [1]), (302, ""), (404, "not json")])
def test_something_else_answers(run: Run, peer: StartPeer, answer: tuple[int, object]) -> None:
    error = run("status", peer({"/healthz": answer}).url).exception
    assert isinstance(error, NoProxyThere)
    assert f"is not vastproxy (HTTP {answer[0]}" in str(error)


def test_nothing_answers() -> None:
    with deaf_port() as port, pytest.raises(NobodyThere) as caught:
        ask(f"http://127.0.0.1:{port}", key=None)
    assert f"nothing answers at http://127.0.0.1:{port}; is `vastproxy serve` running" in str(caught.value)


def test_too_slow_an_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(NoProxyThere, match=r"does not answer within 0\.05 s") as caught:
            ask(url, key=None, read_timeout_s=0.05)
    assert not isinstance(caught.value, NobodyThere)


#: Names that need no name server to lead nowhere: together too long, and in one part.
@pytest.mark.parametrize("host", [".".join(["a" * 60] * 5), f"{'a' * 64}.example"], ids=["name", "part"])
def test_a_name_that_leads_nowhere_does_not_say_that_nobody_listens(host: str) -> None:
    with pytest.raises(NoProxyThere, match="nothing answers at") as caught:
        ask(f"http://{host}:80", key=None)
    assert not isinstance(caught.value, NobodyThere)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of our own making, with its key in the same file."""
    made, file = make_certificate(), tmp_path / "own.pem"
    file.write_bytes(made.cert + made.key)
    return file


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_who_signed_the_certificate_may_be_named(peer: StartPeer, certificate: Path, name: str) -> None:
    url = peer(proxy(healthz()), certificate).url
    with asking(url, key=None, environ={}) as there, pytest.raises(NoProxyThere, match="no trusted TLS"):
        there.get("/healthz")
    with asking(url, key=None, environ={name: str(certificate)}) as there:
        assert there.get("/healthz").status_code == 200


@pytest.mark.filterwarnings("ignore:Unverified HTTPS")
def test_a_process_of_ours_needs_no_signature(peer: StartPeer, certificate: Path) -> None:
    with asking(peer(proxy(healthz()), certificate).url, key=None, is_own=True) as there:
        assert there.get("/healthz").status_code == 200


def test_a_file_of_signers_that_is_not_there_is_told(peer: StartPeer, certificate: Path) -> None:
    url = peer(proxy(healthz()), certificate).url
    gone = {"REQUESTS_CA_BUNDLE": "/nowhere/ca.pem"}
    with (
        asking(url, key=None, environ=gone) as there,
        pytest.raises(NoProxyThere, match=r"cannot be asked: .*/nowhere/ca\.pem"),
    ):
        there.get("/healthz")


def test_plain_http_where_tls_is_expected(peer: StartPeer) -> None:
    url = peer(proxy(healthz())).url.replace("http://", "https://")
    with pytest.raises(NoProxyThere, match="no trusted TLS connection"):
        ask(url, key=None)


def test_the_default_is_where_the_settings_listen(run: Run, peer: StartPeer) -> None:
    there = peer(proxy(healthz(), BACKEND))
    port = there.url.rpartition(":")[2]
    result = run("status", LISTEN_ADDR=f"0.0.0.0:{port}", VASTPROXY_SERVER__INSECURE="true")
    assert there.url in result.output


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        (":80", "http://127.0.0.1:80"),
        ("[::]:80", "http://[::1]:80"),
        ("10.0.0.1:80", "http://10.0.0.1:80"),
    ],
)
def test_where_a_listening_address_is_asked(listen: str, url: str) -> None:
    assert url_of_listen(listen) == url


def test_any_port_cannot_be_asked() -> None:
    with pytest.raises(SettingsError, match="give the URL"):
        url_of_listen(":0")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("gw:8080", "http://gw:8080"),
        ("https://gw.example/", "https://gw.example"),
        ("[::1]:80", "http://[::1]:80"),
        (" http://gw/base/ ", "http://gw/base"),
        ("http://gw:8080/v1", "http://gw:8080"),
        ("gw/base/v1/", "http://gw/base"),
        ("http://v1", "http://v1"),
        ("http://gw/v11", "http://gw/v11"),
    ],
)
def test_how_a_url_may_be_written(text: str, url: str) -> None:
    assert base_url(text) == url


@pytest.mark.parametrize("text", ["", "ftp://gw", "http://", "http://me:pw@gw", "a b", "http://gw?x=1"])
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(SettingsError, match="expected http://host:port") as caught:
        base_url(text)
    assert "pw" not in str(caught.value)

"""A clean home for each test of a command, and HTTP servers for it to talk to."""

import json
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncssh
import pytest
from typer.testing import CliRunner, Result

from vastproxy.cli.main import app

Answers = dict[str, tuple[int, object]]
Run = Callable[..., Result]


@dataclass
class Peer:
    """An HTTP server with fixed answers by path (without the query); a str is sent as it is."""

    url: str
    answers: Answers
    #: Path and Authorization header of every request.
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    #: Path, Content-Type and body of every POST.
    orders: list[tuple[str, str | None, bytes]] = field(default_factory=list)


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have one that cannot do anything, or want no colours."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory and home, and an environment that says nothing about vastproxy."""
    for name in tuple(os.environ):
        if name.startswith("VAST") or name in (
            "LISTEN_ADDR",
            "SSH_AUTH_SOCK",
            "SSH_KEY_PATH",
            "XDG_CONFIG_HOME",
            "FORCE_COLOR",
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(workplace: Path) -> Run:
    """Run a command line in this process: `run("status", "--json", VAST_URL=…)`."""

    def command(*arguments: str, **environ: str) -> Result:
        return CliRunner().invoke(app, arguments, env=environ)

    return command


@pytest.fixture
def ssh_key(workplace: Path) -> Path:
    """A private key where it is looked for by default."""
    path = workplace / ".ssh" / "id_ed25519"
    path.parent.mkdir()
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(path))
    path.chmod(0o600)
    return path


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    """Start HTTP servers on loopback; with a certificate and its key in one file they speak TLS."""
    servers: list[ThreadingHTTPServer] = []

    def start(answers: Answers, certificate: Path | None = None) -> Peer:
        server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
        started = Peer(f"http://127.0.0.1:{server.server_address[1]}", answers)
        if certificate is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(certificate)
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            started.url = started.url.replace("http://", "https://")
        server.RequestHandlerClass = _handler(started)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return started

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _handler(peer: Peer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            peer.seen.append((path, self.headers["Authorization"]))
            status, content = peer.answers.get(path, (404, {"error": "no such page"}))
            body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status in (301, 302):
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            peer.orders.append((self.path, self.headers["Content-Type"], body))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    return Handler

"""A stand-in proxy over real HTTP: it tells a dashboard what a test wants told, and records what it is ordered.

    with FakeProxy(fleet=overview(rows(3))) as proxy:
        proxy.fleet = overview(rows(4))      # everybody who looks is told
        assert proxy.orders == [("/vastproxy/v1/backends/48001001/drain", {})]

`overview` and `backend` make what a proxy of this version tells.
"""

import json
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.helpers.ports import free_port

ROOT = "/vastproxy/v1"
FIRST_ID = 48001001
_KINDS = ("RTX 4090", "H100 SXM", "RTX 5090", "A100 SXM4", "L40S", "RTX 3090")


def gpu(index: int = 0, **changes: Any) -> dict[str, Any]:
    """One GPU, at work."""
    told = {
        "index": index,
        "utilization_percent": 67.0,
        "temperature_c": 61.0,
        "memory_used_mib": 18_637.0,
        "memory_total_mib": 24_564.0,
        "power_w": 312.4,
        "sm_clock_mhz": 1980.0,
        "throttle": [],
        "lost": False,
    }
    return told | changes


def backend(id: int = FIRST_ID, *, gpus: int = 1, **changes: Any) -> dict[str, Any]:
    """One backend that serves."""
    path = {
        "path": "direct",
        "state": "up",
        "address": "10.0.0.1:41000",
        "connections": 1,
        "streams": 3,
        "error": None,
    }
    told = {
        "id": id,
        "state": "healthy",
        "since_s": 190.0,
        "path": "direct",
        "address": "10.0.0.1:41000",
        "paths": [path, {**path, "path": "relay", "streams": 0}],
        "engine": "sglang",
        "port": 18000,
        "models": ["Qwen/Qwen3-8B"],
        "engines": [
            {"kind": "sglang", "version": "0.5.3", "port": 18000, "models": ["Qwen/Qwen3-8B"], "running": 3}
        ],
        "gpu_name": _KINDS[(id - FIRST_ID) % len(_KINDS)],
        "num_gpus": gpus,
        "gpus": [gpu(at) for at in range(gpus)],
        "gpu_error": None,
        "gpu_signs": [],
        "in_flight": 3,
        "requests": 120,
        "failures": 1,
        "hourly_cost": 0.3633,
        "label": "proxied",
        "error": None,
        "machine_id": 24436,
        "geolocation": "Virginia, US",
        "draining": False,
        "tokens_per_s": 340.0,
        "requests_per_s": 1.5,
        "errors": 0,
        "time_left": {"left_s": 518_400.0, "because": "contract", "outbid_risk": "none"},
    }
    return told | changes


def rows(count: int) -> list[dict[str, Any]]:
    """So many backends, every second one with two GPUs."""
    return [backend(FIRST_ID + at, gpus=1 + at % 2) for at in range(count)]


def overview(backends: Sequence[Mapping[str, Any]] = (), **changes: Any) -> dict[str, Any]:
    """How a fleet is."""
    healthy = sum(row.get("state") == "healthy" for row in backends)
    told = {
        "version": "0.1.0",
        "url": "http://127.0.0.1:8080/v1",
        "status": "healthy",
        "reason": None,
        "uptime_s": 11_520.0,
        "vast_api": {"status": "healthy", "latency_ms": 84.0, "error": None},
        "account": {"credit_dollars": 38.2, "dollars_per_hour": 1.92, "hours_left": 19.9},
        "counts": {"total": len(backends), "healthy": healthy},
        "totals": {
            "in_flight": 12,
            "waiting": 0,
            "requests_per_s": 12.3,
            "errors_per_s": 0.0,
            "tokens_out_per_s": 1240.4,
            "sticky_share": 0.92,
            "dollars_per_hour": 1.92,
            "dollars_per_million_tokens": 0.43,
            "ttft_p50_ms": 84.0,
            "ttft_p99_ms": 310.0,
        },
        "backends": list(backends),
    }
    return told | changes


def event(seq: int, text: str = "connecting → healthy", **changes: Any) -> dict[str, Any]:
    """Something that has happened."""
    told = {
        "seq": seq,
        "at_unix": 1_769_860_800.0 + seq,
        "kind": "state_changed",
        "level": "info",
        "instance": FIRST_ID,
        "text": f"[backend={FIRST_ID}] {text}",
    }
    return told | changes


def request(number: int, **changes: Any) -> dict[str, Any]:
    """A request that runs."""
    told = {
        "id": f"5f1c0e9a2b3d{number:08d}",
        "state": "running",
        "began_unix": 1_769_860_800.0 + number,
        "method": "POST",
        "path": "/v1/chat/completions",
        "model": "Qwen/Qwen3-8B",
        "stream": True,
        "key": "web",
        "priority": "interactive",
        "total_ms": 4200.0,
        "sent_bytes": 12_400,
        "attempts": [{"instance": FIRST_ID, "port": 18000, "reason": "least loaded"}],
    }
    return told | changes


class FakeProxy:
    """See the module's docstring. `answers`: what is said to an order or a question, by its path."""

    def __init__(
        self,
        *,
        fleet: Mapping[str, Any] | None = None,
        events: Iterable[Mapping[str, Any]] = (),
        requests: Sequence[Mapping[str, Any]] = (),
        key: str | None = None,
    ) -> None:
        self.requests = list(requests)
        self.answers: dict[str, tuple[int, Any]] = {}
        self.live_status = 200
        self.orders: list[tuple[str, Any]] = []
        self.asked: list[str] = []
        self._fleet = dict(fleet or overview())
        self._events = list(events)
        self._key = key
        self._readers: list[queue.SimpleQueue[bytes | None]] = []
        self._lock = threading.Lock()
        self._port = free_port()
        self._is_open = False
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def fleet(self) -> dict[str, Any]:
        return self._fleet

    @fleet.setter
    def fleet(self, fleet: dict[str, Any]) -> None:
        self._fleet = fleet
        self._send(_sse("fleet", fleet))

    def happens(self, told: Mapping[str, Any]) -> None:
        """An event, now."""
        self._events.append(dict(told))
        self._send(_sse("happened", told))

    def sends(self, data: bytes) -> None:
        """These bytes, to all who look."""
        self._send(data)

    def cut(self) -> None:
        """End the connections of all who look."""
        with self._lock:
            for reader in self._readers:
                reader.put(None)
            self._readers = []

    def start(self) -> None:
        """On the same port each time."""
        self._server = _Server(("127.0.0.1", self._port), _handler(self))
        self._is_open = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def stop(self) -> None:
        """Nobody answers any more."""
        with self._lock:
            self._is_open = False  # who comes back while it ends is not kept either
        self.cut()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _send(self, data: bytes) -> None:
        with self._lock:
            for reader in self._readers:
                reader.put(data)

    def look(self) -> "queue.SimpleQueue[bytes | None]":
        """Somebody looks: what he is sent, None at the end."""
        reader: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        with self._lock:
            reader.put(b": hello\n\n" + _sse("fleet", self._fleet))
            for told in self._events:
                reader.put(_sse("happened", told))
            if self._is_open:
                self._readers.append(reader)
            else:
                reader.put(None)
        return reader

    def may(self, authorization: str | None) -> bool:
        return self._key is None or authorization == f"Bearer {self._key}"

    def answer(self, path: str) -> tuple[int, Any]:
        """What is said to a question."""
        plain, _, query = path.partition("?")
        if plain in self.answers:
            return self.answers[plain]
        if plain == f"{ROOT}/fleet":
            return 200, self._fleet
        if plain == f"{ROOT}/requests":
            wanted = query.partition("state=")[2].partition("&")[0]
            return 200, {"requests": [one for one in self.requests if one["state"] == wanted]}
        for kind, found in (("backends", self._fleet["backends"]), ("requests", self.requests)):
            for row in found:
                if plain == f"{ROOT}/{kind}/{row['id']}":
                    return 200, row
        return 404, {"error": {"message": "There is no such page.", "code": "not_found"}}


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A dashboard may leave at any time."""


def _sse(name: str, content: Mapping[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n".encode()


def _handler(proxy: FakeProxy) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5.0

        def do_GET(self) -> None:
            proxy.asked.append(self.path)
            if not proxy.may(self.headers["Authorization"]):
                self._say(401, {"error": {"message": "A key is needed."}})
            elif self.path.startswith(f"{ROOT}/live"):
                self._live()
            else:
                self._say(*proxy.answer(self.path))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"null")
            assert self.headers["Content-Type"] == "application/json"
            proxy.orders.append((self.path, body))
            self._say(*proxy.answers.get(self.path, (200, {})))

        def _live(self) -> None:
            if proxy.live_status != 200:
                self._say(proxy.live_status, {"error": {"message": "Not now."}})
                return
            reader = proxy.look()
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while (data := reader.get()) is not None:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.write(b"0\r\n\r\n")
            self.close_connection = True

        def _say(self, status: int, content: Any) -> None:
            body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    return Handler

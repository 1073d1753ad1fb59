"""What a request and a token cost in our own code alone: no sockets, no SSH, no system calls, one process.

    python -m bench.hot_path            print µs per request and per token, the best of several rounds
    python -m bench.hot_path --profile  and the functions that take the time (cProfile, which inflates small ones)

For finding out what a change does; what users get is measured by `python -m bench run`.
"""

import argparse
import asyncio
import cProfile
import pstats
import time
from collections.abc import Callable
from typing import Any, cast

from vastproxy.api.access import AccessLog
from vastproxy.api.app import create_app
from vastproxy.api.http.protocol import HttpProtocol
from vastproxy.cli.serve import server_config, spare_garbage_collection
from vastproxy.services.backends.carrier import Carrier
from vastproxy.services.backends.discovery_plan import DiscoveredEngine, Origin
from vastproxy.services.backends.engine import Engine
from vastproxy.services.backends.engine_kinds import EngineKind, EngineTarget
from vastproxy.services.backends.health import Observation
from vastproxy.services.backends.inside_plan import Look
from vastproxy.services.backends.state import Event
from vastproxy.services.fleet import Fleet
from vastproxy.services.tunnels.base import Path, SshAddress, Tunnel
from vastproxy.settings import Settings
from vastproxy.vastai import VastClient, VastConfig
from vastproxy.vastai.types import Instance

BODY = b'{"model":"m","messages":[{"role":"user","content":"Say hello."}]}'
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer sk-0123456789abcdef0123456789abcdef\r\nContent-Length: %d\r\n\r\n%b"
    % (len(BODY), BODY)
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 02:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-type: application/json\r\ncontent-length: 500\r\n\r\n" + b"x" * 500
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_EVENT = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"hello "}}]}' + b" " * 200 + b"\n\n"
TOKEN = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)
KEY = "sk-0123456789abcdef0123456789abcdef"


class FakeStream:
    """The transport of either side: takes everything, at no cost."""

    def __init__(self) -> None:
        self.protocol: Any = None

    def write(self, data: bytes) -> None:
        """Forgets it."""

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 50000) if name == "peername" else None

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """Nothing comes by itself."""

    resume_reading = close = abort = write_eof = pause_reading


class FakeTunnel:
    """A tunnel whose streams are fakes."""

    address = SshAddress("192.0.2.1", 22, Path.DIRECT)
    is_alive = True
    is_doubted = False

    def __init__(self) -> None:
        self.streams: list[FakeStream] = []
        self.opened = asyncio.Event()

    async def open(self, factory: Callable[[], Any], port: int, *, host: str = "127.0.0.1") -> Any:
        stream = FakeStream()
        stream.protocol = factory()
        stream.protocol.connection_made(stream)
        self.streams.append(stream)
        self.opened.set()
        return stream.protocol


class _ServerState:
    def __init__(self) -> None:
        self.connections: set[object] = set()
        self.total_requests = 0


def _fleet(tunnel: FakeTunnel) -> Fleet:
    settings = Settings.model_validate({"server": {"api_keys": [KEY]}})
    fleet = Fleet(settings, VastClient(VastConfig(api_key="k", url="http://127.0.0.1:9")), _NoTunnels())
    instance = Instance.from_json({"id": 1, "actual_status": "running", "jupyter_token": "t" * 64})
    assert instance is not None
    fleet.apply((instance,))
    backend = fleet._backends[1]
    way = Carrier(cast(Tunnel, tunnel), fleet.settings.upstream, end=lambda _: None)
    backend.use((way,))
    backend.step(Event.DIAL, 0.0)
    found = DiscoveredEngine(EngineTarget(EngineKind.VLLM, 18000), ("m",), Origin.PROBING)
    engine = Engine(found, instance_id=1, token="t" * 64)
    engine.observe(Observation.GOOD, 0.0, "", unhealthy_after=3, proof_s=10.0)
    backend.see(Look(Observation.GOOD, "", (engine,)), 0.0)
    return fleet


class _NoTunnels:
    async def connect(self, target: Any, address: Any, *, begun: Any = None) -> Any:
        raise NotImplementedError

    async def recycled(self, identity: str) -> None:
        """No host keys are kept."""

    async def close(self) -> None:
        """Nothing is open."""


async def prepare() -> tuple[HttpProtocol, FakeTunnel]:
    """One client's connection, with one kept connection to an engine behind it."""
    tunnel = FakeTunnel()
    fleet = _fleet(tunnel)
    lines: list[bytes] = []
    log = AccessLog(form="json", sink=lambda line: lines.clear())
    app = create_app(fleet.settings, fleet=fleet, access_log=log)
    factory = server_config(app, fleet.settings.server).http
    protocol = cast(Callable[..., HttpProtocol], factory)(None, _ServerState(), {})
    protocol.connection_made(FakeStream())  # type: ignore[arg-type]
    protocol.data_received(REQUEST)
    await tunnel.opened.wait()
    await asyncio.sleep(0)  # the request is sent in the same turn
    tunnel.streams[0].protocol.data_received(ANSWER)
    return protocol, tunnel


def requests(protocol: HttpProtocol, tunnel: FakeTunnel, count: int) -> None:
    """So many requests and answers, one after another."""
    engine = tunnel.streams[0].protocol
    for _ in range(count):
        protocol.data_received(REQUEST)
        engine.data_received(ANSWER)


def tokens(protocol: HttpProtocol, tunnel: FakeTunnel, count: int) -> None:
    """One stream of so many tokens."""
    engine = tunnel.streams[0].protocol
    protocol.data_received(REQUEST)
    engine.data_received(STREAM_HEAD)
    for _ in range(count):
        engine.data_received(TOKEN)
    engine.data_received(b"0\r\n\r\n")


def best_us(work: Callable[[int], None], count: int, rounds: int) -> float:
    """CPU microseconds per piece of work in the best round: the others were disturbed."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time_ns()
        work(count)
        best = min(best, (time.process_time_ns() - began) / count / 1000)
    return best


async def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m bench.hot_path", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", action="store_true", help="show which functions take the time")
    parser.add_argument("--count", type=int, default=5000, help="requests, and tokens, in a round")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    protocol, tunnel = await prepare()
    spare_garbage_collection()
    for name, work in (("request", requests), ("token", tokens)):

        def run(count: int, work: Callable[[HttpProtocol, FakeTunnel, int], None] = work) -> None:
            work(protocol, tunnel, count)

        run(1000)
        print(f"{name:8} {best_us(run, options.count, options.rounds):6.2f} µs")  # noqa: T201
        if options.profile:
            profile = cProfile.Profile()
            profile.runcall(run, options.count)
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(main())
    except ImportError:
        asyncio.run(main())

"""What the chaos happens on: an account, rented hosts that are real processes, and one `vastproxy serve`."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.answers import CHAT
from bench.chaos_answers import ALIAS, MODELS
from bench.chaos_engine import engine_program
from bench.contenders.base import CLIENT_KEY, Running
from bench.contenders.vastproxy import serving
from bench.processes import BenchError, Program, descendants, free_port
from bench.sshd import Sshd, make_key, run_sshd
from vastproxy.simulator.account import Account
from vastproxy.simulator.api import create_api
from vastproxy.simulator.payloads import ports
from vastproxy.simulator.serving import AppServer

__all__ = ["CAP", "CHAT", "KEYS", "LIMITS", "Arena", "EngineAt", "Host", "open_arena"]

_ACCOUNT_KEY = "0123456789abcdef" * 4
_CALL_LIMIT_S = 10.0
#: Requests that an engine is given at the same time.
CAP = 6
#: Whose requests they are: places are shared evenly between them.
KEYS = (CLIENT_KEY, *(f"sk-chaos-{number}-0123456789abcdef0123456789abcdef" for number in range(2)))
#: Which engines each instance has, by the place of their model.
FLEET: Sequence[Sequence[int]] = ((0,), (0, 1), (1,), (1,))
#: Variables in which ports of engines are looked for, for as many engines in one instance.
_VARIABLES = ("VLLM_ARGS", "SGLANG_ARGS")


@dataclass(frozen=True, slots=True)
class Limits:
    """The proxy's limits in seconds, short ones so that minutes hold many of them."""

    connect: float = 3.0
    headers: float = 6.0
    idle: float = 4.0
    wait: float = 6.0
    batch_wait: float = 12.0
    attempts: int = 3

    def until_answer(self, *, batch: bool) -> float:
        """The longest that a request may be without an answer: each attempt waits for a place, connects, is sent."""
        return self.attempts * ((self.batch_wait if batch else self.wait) + self.connect + self.headers)


LIMITS = Limits()
_ENVIRONMENT = {
    "VAST_API_KEY": _ACCOUNT_KEY,
    "VASTPROXY_API_KEYS": ",".join(KEYS),
    "VASTPROXY_ROUTING__ALIASES": json.dumps({ALIAS: [MODELS[1]]}),
    "VASTPROXY_ROUTING__SESSION_HEADER": "X-Session-Id",
    "VASTPROXY_ADMISSION__MAX_IN_FLIGHT_PER_BACKEND": str(CAP),
    "VASTPROXY_QUEUE__MAX_WAITING": "60",
    "VASTPROXY_QUEUE__MAX_WAITING_PER_KEY": "25",
    "VASTPROXY_QUEUE__MAX_WAIT_S": str(LIMITS.wait),
    "VASTPROXY_QUEUE__BATCH_MAX_WAITING": "20",
    "VASTPROXY_QUEUE__BATCH_MAX_WAIT_S": str(LIMITS.batch_wait),
    "VASTPROXY_UPSTREAM__CONNECT_TIMEOUT_S": str(LIMITS.connect),
    "VASTPROXY_UPSTREAM__HEADERS_TIMEOUT_S": str(LIMITS.headers),
    "VASTPROXY_UPSTREAM__IDLE_TIMEOUT_S": str(LIMITS.idle),
    "VASTPROXY_UPSTREAM__POOL_IDLE_S": "1.5",
    "VASTPROXY_UPSTREAM__MAX_ATTEMPTS": str(LIMITS.attempts),
    "VASTPROXY_PASSIVE_HEALTH__EJECTION_S": "3",
    "VASTPROXY_PASSIVE_HEALTH__MAX_EJECTION_S": "15",
    "VASTPROXY_PASSIVE_HEALTH__SLOW_START_S": "5",
    "VASTPROXY_FLEET__POLL_INTERVAL_S": "1.5",
    "VASTPROXY_FLEET__PROBE_INTERVAL_S": "1",
    "VASTPROXY_ENGINES__HEALTH_TIMEOUT_S": "3",
    "VASTPROXY_TUNNELS__CONNECT_TIMEOUT_S": "4",
    "VASTPROXY_TUNNELS__KEEPALIVE_INTERVAL_S": "2",
    "VASTPROXY_TUNNELS__BACKOFF_MIN_S": "0.5",
    "VASTPROXY_TUNNELS__BACKOFF_MAX_S": "3",
    "VASTPROXY_VAST__CACHE__TTL_S": "0.5",
    "VASTPROXY_VAST__READ_TIMEOUT_S": "5",
    "VASTPROXY_VAST__RETRIES__ATTEMPTS": "1",
    "VASTPROXY_VAST__MIN_INTERVAL_SCALE": "0.1",
    "VASTPROXY_LOGGING__FORMAT": "json",
}


@dataclass(slots=True)
class EngineAt:
    """An engine inside an instance."""

    port: int
    model: str
    program: Program
    journal: Path

    async def misbehave(self, how: Mapping[str, Any]) -> None:
        """Tell it how to answer from now on."""
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            await call(self.port, "/chaos", how)

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, AssertionError):
            os.kill(self.program.pid, number)

    async def kill(self) -> None:
        """SIGKILL: connections are reset, nothing is said."""
        self.signal(signal.SIGKILL)
        await asyncio.to_thread(self.program.end)

    async def start(self) -> None:
        await asyncio.to_thread(self.program.__enter__)


@dataclass(slots=True)
class Host:
    """A rented instance: an sshd and engines, all of them processes that may be killed, frozen and started again."""

    id: int
    sshd: Sshd
    engines: list[EngineAt]
    fields: Mapping[str, Any]
    """Its row in the account, to put it back there."""
    is_busy: bool = False
    """Something is happening to it."""

    def sessions(self) -> list[int]:
        """The processes of sshd that carry connections."""
        return descendants(self.sshd.program.pid)

    def signal_sshd(self, number: signal.Signals, *, listener: bool) -> list[int]:
        """To all its processes, or to those of the sessions alone; returns whom."""
        pids = [self.sshd.program.pid, *self.sessions()] if listener else self.sessions()
        send(pids, number)
        return pids

    async def kill_sshd(self) -> None:
        """The listener and every session end at once, as when the machine loses power."""
        self.signal_sshd(signal.SIGKILL, listener=True)
        await asyncio.to_thread(self.sshd.program.end)

    async def start_sshd(self) -> None:
        await asyncio.to_thread(self.sshd.program.__enter__)


@dataclass(slots=True)
class Arena:
    """Everything of a run."""

    account: Account
    hosts: list[Host]
    proxy: Running
    proxy_port: int = field(init=False)

    def __post_init__(self) -> None:
        self.proxy_port = int(self.proxy.url.rpartition(":")[2])

    @property
    def pid(self) -> int:
        return self.proxy.programs[0].pid

    async def ask(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask the proxy of itself. Raises OSError, and BenchError for another status than 200."""
        return await call(self.proxy_port, path, body)

    def return_to_account(self, host: Host) -> None:
        self.account.add(id=host.id, **host.fields)


def send(pids: Sequence[int], number: signal.Signals) -> None:
    """A signal to whoever of them is still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


async def call(port: int, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
    """A GET, or a POST of JSON, on a connection of its own."""
    data = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nhost: chaos\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {CLIENT_KEY}\r\ncontent-length: {len(data)}\r\nconnection: close\r\n\r\n"
    )
    async with asyncio.timeout(_CALL_LIMIT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(head.encode() + data)
            first = await reader.readuntil(b"\r\n\r\n")
            length = int(first.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or -1)
            answer = await (reader.readexactly(length) if length >= 0 else reader.read())
        finally:
            writer.close()
    if b" 200 " not in first[:16]:
        raise BenchError(f"{path}: {first[:40]!r} {answer[:200]!r}")
    if length < 0:
        answer = b"".join(line for line in answer.split(b"\r\n")[1::2])
    found: dict[str, Any] = json.loads(answer)
    return found


@asynccontextmanager
async def open_arena(directory: Path) -> AsyncIterator[Arena]:
    """A proxy over the fleet, all of it healthy. Everything in it ends with the block."""
    key = make_key(directory / "id_ed25519")
    account = Account(api_key=_ACCOUNT_KEY, rate_limits=False)
    server = AppServer(create_api(account))
    async with AsyncExitStack() as stack:
        await server.start()
        stack.push_async_callback(server.stop)
        programs = stack.enter_context(ExitStack())
        starting = (
            asyncio.to_thread(_start, programs, directory / f"instance-{number}", key, models)
            for number, models in enumerate(FLEET)
        )
        hosts = [_rent(account, *started) for started in await asyncio.gather(*starting)]
        variables = {
            **_ENVIRONMENT,
            "SSH_KEY_PATH": str(key),
            "VASTPROXY_TUNNELS__STATE_DIR": str(directory / "state"),
        }
        argv = [sys.executable, "-m", "vastproxy", "serve"]
        context = serving(argv, directory, f"http://127.0.0.1:{server.port}", len(hosts), variables)
        running = await asyncio.to_thread(context.__enter__)
        stack.push_async_callback(asyncio.to_thread, context.__exit__, None, None, None)
        yield Arena(account, hosts, running)


def _start(
    stack: ExitStack, directory: Path, key: Path, models: Sequence[int]
) -> tuple[Sshd, list[EngineAt]]:
    """Start the processes of a host."""
    sshd = stack.enter_context(run_sshd(directory, key))
    engines = []
    for place in models:
        port = free_port()
        program, journal = engine_program(directory, port, MODELS[place])
        stack.enter_context(program)
        engines.append(EngineAt(port, MODELS[place], program, journal))
    return sshd, engines


def _rent(account: Account, sshd: Sshd, engines: list[EngineAt]) -> Host:
    """Put a host into the account."""
    fields: dict[str, Any] = {
        "engine": "vllm",
        "public_ipaddr": "127.0.0.1\n",
        "ports": ports(sshd.port),
        "extra_env": [
            [name, f"--host 127.0.0.1 --port {engine.port}"]
            for name, engine in zip(_VARIABLES, engines, strict=False)
        ],
        # Nothing but the direct way exists here.
        "ssh_host": None,
        "ssh_port": None,
    }
    contract = account.add(**fields)
    # As it was: with another beginning or token it would be taken for a new machine.
    same = {name: contract.row[name] for name in ("start_date", "end_date", "jupyter_token")}
    return Host(contract.id, sshd, engines, {**fields, **same})

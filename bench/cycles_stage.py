"""What the cycles happen on: machines with two ways to each of them, and one proxy process.

Each way is a relay of the test suite in front of the same sshd: what the account calls the direct address, and what it
calls vast.ai's relay.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.contenders.base import Running
from bench.contenders.vastproxy import serving
from bench.cycles_engine import engine_program
from bench.processes import BenchError, free_port
from bench.soak_stage import Machine, Stage
from bench.sshd import make_key, run_sshd
from tests.helpers.faulty_relay import FaultyRelay
from vastproxy.simulator.account import Account
from vastproxy.simulator.api import create_api
from vastproxy.simulator.payloads import ports
from vastproxy.simulator.serving import AppServer

_ACCOUNT_KEY = "0123456789abcdef" * 4
_PORT_TRIES = 20
#: Settings as they come, but for how often it is tried to get back to the direct path: that is not what is measured.
_ENVIRONMENT = {
    "VAST_API_KEY": _ACCOUNT_KEY,
    # Else the direct way would be left alone for longer and longer, as it breaks all the time.
    "VASTPROXY_TUNNELS__BACKOFF_MIN_S": "1",
    "VASTPROXY_TUNNELS__BACKOFF_MAX_S": "3",
    "VASTPROXY_VAST__MIN_INTERVAL_SCALE": "0.1",
    "VASTPROXY_LOGGING__FORMAT": "text",
}


@dataclass(frozen=True, slots=True)
class Ways:
    """The two ways to one machine."""

    instance: int
    direct: FaultyRelay
    relay: FaultyRelay


@dataclass(slots=True)
class Crossroads:
    """Everything of a run: the proxy and its machines, and the ways to them."""

    stage: Stage
    ways: list[Ways]


@asynccontextmanager
async def open_crossroads(directory: Path, count: int) -> AsyncIterator[Crossroads]:
    """A proxy over so many machines, all of them healthy. Everything in it ends with the block."""
    key = make_key(directory / "id_ed25519")
    account = Account(api_key=_ACCOUNT_KEY, rate_limits=False)
    server = AppServer(create_api(account))
    async with AsyncExitStack() as stack:
        await server.start()
        stack.push_async_callback(server.stop)
        programs = stack.enter_context(ExitStack())
        machines, ways = [], []
        for number in range(count):
            machine, found = await _rent(stack, programs, account, directory / f"instance-{number}", key)
            machines.append(machine)
            ways.append(found)
        environment = {
            **_ENVIRONMENT,
            "SSH_KEY_PATH": str(key),
            "VASTPROXY_TUNNELS__STATE_DIR": str(directory / "state"),
        }
        running = await _serve(stack, directory, f"http://127.0.0.1:{server.port}", count, environment)
        yield Crossroads(Stage(account, machines, running), ways)


async def _rent(
    stack: AsyncExitStack, programs: ExitStack, account: Account, directory: Path, key: Path
) -> tuple[Machine, Ways]:
    """Start a machine and the ways to it, and put it into the account."""
    sshd = await asyncio.to_thread(lambda: programs.enter_context(run_sshd(directory, key)))
    port = free_port()
    engine = engine_program(directory, port)
    await asyncio.to_thread(lambda: programs.enter_context(engine))
    direct = await stack.enter_async_context(FaultyRelay(sshd.port))
    relay = await _vast_relay(stack, sshd.port)
    contract = account.add(
        engine="vllm",
        public_ipaddr="127.0.0.1\n",
        ports=ports(direct.port),
        extra_env=[["VLLM_ARGS", f"--host 127.0.0.1 --port {port}"]],
        ssh_host="127.0.0.1",
        ssh_port=relay.port,
    )
    return Machine(contract.id, sshd, engine), Ways(contract.id, direct, relay)


async def _vast_relay(stack: AsyncExitStack, port: int) -> FaultyRelay:
    """A relay next to whose port nobody listens: with vast.ai's, either of the two may be the right one."""
    for _ in range(_PORT_TRIES):
        relay = FaultyRelay(port).start()
        beside = socket.socket()
        try:
            beside.bind(("127.0.0.1", relay.port + 1))
        except (OSError, OverflowError):
            beside.close()
            await relay.aclose()
        else:
            stack.callback(beside.close)
            stack.push_async_callback(relay.aclose)
            return relay
    raise BenchError("no two free ports beside each other were found")


async def _serve(
    stack: AsyncExitStack, directory: Path, api: str, count: int, environment: dict[str, str]
) -> Running:
    """Start the proxy beside the loop, which serves the account that it asks."""
    argv = [sys.executable, "-m", "vastproxy", "serve"]
    context = serving(argv, directory, api, count, environment)
    running = await asyncio.to_thread(context.__enter__)
    stack.push_async_callback(asyncio.to_thread, context.__exit__, None, None, None)
    return running

"""What a soak happens on: an account that can misbehave, machines that can die, and one proxy process."""

import asyncio
import json
import os
import signal
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.asked_engine import engine_program
from bench.contenders.base import CLIENT_KEY, Running
from bench.contenders.vastproxy import healthy_backends, python_of, serving
from bench.processes import BenchError, Program, free_port
from bench.sshd import Sshd, make_key, run_sshd
from vastproxy.simulator.account import Account
from vastproxy.simulator.api import create_api
from vastproxy.simulator.payloads import ports
from vastproxy.simulator.serving import AppServer

_ACCOUNT_KEY = "0123456789abcdef" * 4
_HEALTHY_LIMIT_S = 60.0
#: Fast enough that minutes hold many probes, polls and reconnections, in the usual order of things.
_ENVIRONMENT = {
    "VAST_API_KEY": _ACCOUNT_KEY,
    "VASTPROXY_FLEET__POLL_INTERVAL_S": "2",
    "VASTPROXY_FLEET__PROBE_INTERVAL_S": "1",
    "VASTPROXY_ENGINES__HEALTH_TIMEOUT_S": "3",
    "VASTPROXY_TUNNELS__BACKOFF_MIN_S": "0.5",
    "VASTPROXY_TUNNELS__BACKOFF_MAX_S": "2",
    "VASTPROXY_VAST__CACHE__TTL_S": "0.5",
    "VASTPROXY_VAST__READ_TIMEOUT_S": "5",
    "VASTPROXY_VAST__RETRIES__ATTEMPTS": "1",
    "VASTPROXY_VAST__MIN_INTERVAL_SCALE": "0.1",
    "VASTPROXY_LOGGING__FORMAT": "text",
}


@dataclass(slots=True)
class Machine:
    """A rented instance: its sshd and its engine, each a process that may be killed, frozen and started again."""

    id: int
    sshd: Sshd
    engine: Program

    async def kill_sshd(self) -> None:
        """The listener and every session end at once, as when the machine loses power. The engine lives on."""
        await asyncio.to_thread(self.sshd.program.end)

    async def start_sshd(self) -> None:
        await asyncio.to_thread(self.sshd.program.__enter__)

    async def kill_engine(self) -> None:
        """SIGKILL: connections are reset, nothing is said."""
        with suppress(ProcessLookupError):
            os.kill(self.engine.pid, signal.SIGKILL)
        await asyncio.to_thread(self.engine.end)

    async def start_engine(self) -> None:
        await asyncio.to_thread(self.engine.__enter__)

    def freeze_engine(self) -> None:
        os.kill(self.engine.pid, signal.SIGSTOP)

    def thaw_engine(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.engine.pid, signal.SIGCONT)


@dataclass(slots=True)
class Stage:
    """See the module's docstring."""

    account: Account
    machines: list[Machine]
    proxy: Running

    @property
    def pid(self) -> int:
        return self.proxy.programs[0].pid

    @property
    def port(self) -> int:
        return int(self.proxy.url.rpartition(":")[2])

    async def wait_all_healthy(self) -> None:
        """Until every machine serves. Raises BenchError."""
        wanted = len(self.machines)
        try:
            async with asyncio.timeout(_HEALTHY_LIMIT_S):
                while await asyncio.to_thread(healthy_backends, self.proxy.url) != wanted:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise BenchError(
                f"not all {wanted} machines were healthy within {_HEALTHY_LIMIT_S:g} s"
            ) from None

    async def ask_process(self) -> dict[str, Any] | None:
        """What the proxy says of its own process (tasks, requests in flight); None when it has no word for it."""
        return await asyncio.to_thread(self._ask_process)

    def _ask_process(self) -> dict[str, Any] | None:
        headers = {"authorization": f"Bearer {CLIENT_KEY}"}
        request = urllib.request.Request(f"{self.proxy.url}/vastproxy/v1/process", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)
        except (OSError, ValueError):
            return None
        return found


@asynccontextmanager
async def open_stage(directory: Path, count: int, tree: Path) -> AsyncIterator[Stage]:
    """A proxy, built in `tree`, over so many machines, all of them healthy. Everything in it ends with the block."""
    key = make_key(directory / "id_ed25519")
    account = Account(api_key=_ACCOUNT_KEY, rate_limits=False)
    server = AppServer(create_api(account))
    async with AsyncExitStack() as stack:
        await server.start()
        stack.push_async_callback(server.stop)
        programs = stack.enter_context(ExitStack())
        machines = [_rent(programs, account, directory, key, number) for number in range(count)]
        api, environment = f"http://127.0.0.1:{server.port}", dict(_ENVIRONMENT)
        environment |= {"SSH_KEY_PATH": str(key), "VASTPROXY_TUNNELS__STATE_DIR": str(directory / "state")}
        proxy = _Proxy(tree, directory, api, count, environment)
        running = await asyncio.to_thread(proxy.start)
        stack.push_async_callback(asyncio.to_thread, proxy.end)
        yield Stage(account, machines, running)


def _rent(stack: ExitStack, account: Account, directory: Path, key: Path, number: int) -> Machine:
    """Start a machine and put it into the account."""
    port = free_port()
    engine = engine_program(directory, [port])
    engine.__enter__()
    stack.callback(engine.end)
    sshd = stack.enter_context(run_sshd(directory / f"instance-{number}", key))
    contract = account.add(
        engine="vllm",
        public_ipaddr="127.0.0.1\n",
        ports=ports(sshd.port),
        extra_env=[["VLLM_ARGS", f"--host 127.0.0.1 --port {port}"]],
        ssh_host=None,
        ssh_port=None,
    )
    return Machine(contract.id, sshd, engine)


class _Proxy:
    """The proxy's process; it is started and ended beside the loop, which serves the account that it asks."""

    def __init__(
        self, tree: Path, directory: Path, api: str, count: int, environment: dict[str, str]
    ) -> None:
        argv, variables = python_of(tree, "vastproxy")
        self._context = serving([*argv, "serve"], directory, api, count, environment | variables)

    def start(self) -> Running:
        return self._context.__enter__()

    def end(self) -> None:
        self._context.__exit__(None, None, None)

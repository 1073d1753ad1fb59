"""Many instances that appear at the same time, over both engines: logins are bounded, and each gets its turn."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path as FilePath

import asyncssh
import pytest

from tests.helpers.ssh_engines import engine_named
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import direct, target_for
from vastproxy.services.tunnels.base import Tunnel
from vastproxy.settings.model import TunnelSettings

INSTANCES = 200
#: How long the machines take over a login, beside the work that it is.
LOGIN_S = 0.4
#: Far more than one login takes, and less than all of them.
CONNECT_LIMIT_S = 4.0


class Machines:
    """Whatever answers at one port: lets everybody in, after a while, and counts those who are not in yet."""

    def __init__(self) -> None:
        self.port = 0
        self.under_way = 0
        self.most = 0
        self.logins = 0
        self.connections: list[asyncssh.SSHServerConnection] = []

    @contextlib.asynccontextmanager
    async def serve(self, host_key: FilePath) -> AsyncIterator["Machines"]:
        listener = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _Guest(self),
            server_host_keys=[str(host_key)],
            backlog=INSTANCES,
        )
        self.port = listener.get_port()
        try:
            yield self
        finally:
            listener.close()
            for connection in self.connections:
                connection.abort()
            await asyncio.gather(*(connection.wait_closed() for connection in self.connections))
            await listener.wait_closed()


class _Guest(asyncssh.SSHServer):
    """One connection. It may neither run commands nor forward anything, which is no reason not to let it in."""

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self._is_in = False

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        machines = self._machines
        machines.connections.append(conn)
        machines.under_way += 1
        machines.most = max(machines.most, machines.under_way)

    async def begin_auth(self, username: str) -> bool:
        await asyncio.sleep(LOGIN_S)
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return True

    def auth_completed(self) -> None:
        self._is_in = True
        self._machines.under_way -= 1
        self._machines.logins += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_in:
            self._machines.under_way -= 1


async def close_all(tunnels: list[Tunnel]) -> None:
    await asyncio.gather(*(tunnel.close() for tunnel in tunnels))


@pytest.mark.parametrize("many", [16, 3])
async def test_instances_that_appear_at_once_log_in_a_few_at_a_time_and_all_get_in(
    tmp_path: FilePath, engine: str, many: int
) -> None:
    """At most `max_handshakes` logins are under way and that many are; who waits for its turn is not given up: all of
    them together take longer than `connect_timeout_s` allows each."""
    instances = INSTANCES if many == TunnelSettings().max_handshakes else 40
    machine = await asyncio.to_thread(Sshd, tmp_path / "machine")  # for its keys alone
    ours = engine_named(engine, machine, max_handshakes=many, connect_timeout_s=CONNECT_LIMIT_S)
    loop = asyncio.get_running_loop()
    async with Machines().serve(machine.host_key_path) as machines:
        address, began = direct(machines.port), loop.time()
        async with asyncio.timeout(60):
            outcomes = await asyncio.gather(
                *(
                    ours.connect(target_for(address, instance_id=id), address)
                    for id in range(1, instances + 1)
                ),
                return_exceptions=True,
            )
        took_s = loop.time() - began
        tunnels = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        try:
            assert [str(outcome) for outcome in outcomes if isinstance(outcome, BaseException)] == []
            assert machines.logins == len(tunnels) == instances
            assert machines.most == many
            assert machines.under_way == 0
            assert all(tunnel.is_alive for tunnel in tunnels)
            assert took_s > CONNECT_LIMIT_S, "or it is not known whether waiting counts"
        finally:
            await close_all(tunnels)
            await ours.close()

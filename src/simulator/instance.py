"""One simulated machine: its life, its SSH server behind two network paths, its engines, and how to hurt it.

What touches sockets is a coroutine; what only changes behaviour is not. Life (boot, stop, die, …) is
serialized by a lock, so calls from a test, from the API and from chaos may overlap.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import asyncssh

from vastproxy.simulator.caddy import Doors
from vastproxy.simulator.chores import Chores
from vastproxy.simulator.contract import Contract, Phase, Verb
from vastproxy.simulator.engine import Engine
from vastproxy.simulator.gateway import Gateway
from vastproxy.simulator.nvidia_smi import Gpus, Output
from vastproxy.simulator.payloads import ports
from vastproxy.simulator.programs import Programs
from vastproxy.simulator.shell import run_command
from vastproxy.simulator.ssh import SshService

_LOCAL = ("127.0.0.1", "localhost", "0.0.0.0")


class SimulatedInstance:
    """A machine behind a contract. Reports to the contract what the API shall say."""

    def __init__(
        self,
        contract: Contract,
        engine: Engine | None,
        *,
        directory: Path,
        second: Engine | None = None,
        doors: Doors = Doors.OWN,
        jupyter: bool = False,
        boot_s: float = 0.0,
        clock: Callable[[], float] = time.time,
        forget: Callable[[int], None] = lambda instance_id: None,
    ) -> None:
        """`second`: another engine beside `engine`, on a port of its own. `doors`: which ports lead to `engine`."""
        self.contract = contract
        #: None on an instance that runs no engine that we know.
        self.engine_or_none = engine
        #: Seconds between a start and the container being up.
        self.boot_s = boot_s
        engines = [one for one in (engine, second) if one is not None]
        #: What listens inside.
        self.programs = Programs(
            engines,
            contract,
            directory,
            doors=doors,
            cut=lambda path: self.ssh.cut_forwards(path),
        )
        self._clock = clock
        self._forget = forget
        self._chores = Chores(f"instance-{contract.id}")
        self._lock = asyncio.Lock()
        self._up = False
        self._ssh_wanted = True
        self._direct_wanted = True
        self._gpus = Gpus(contract.row["gpu_name"], contract.row["num_gpus"], contract.id)
        self.ssh = SshService(authorized=self._authorized, route=self._route, execute=self._execute)
        self.direct = Gateway(f"{contract.id}-direct", self.ssh.serve)
        self.relay = Gateway(f"{contract.id}-relay", self.ssh.serve)
        self._jupyter = jupyter
        contract.machine = self

    def __repr__(self) -> str:
        return f"<SimulatedInstance {self.id} {self.contract.phase} {self.engine_or_none!r}>"

    @property
    def id(self) -> int:
        return self.contract.id

    @property
    def token(self) -> str:
        """The instance's `jupyter_token`."""
        return self.contract.token

    @property
    def engine(self) -> Engine:
        """The engine. Raises LookupError on an instance without one."""
        if self.engine_or_none is None:
            raise LookupError(f"instance {self.id} runs no engine")
        return self.engine_or_none

    @property
    def engines(self) -> tuple[Engine, ...]:
        return tuple(seat.engine for seat in self.programs.seats)

    @property
    def engine_running(self) -> bool:
        """Does `engine` listen?"""
        return bool(self.programs.seats) and self.programs.seats[0].server.running

    @property
    def engine_port(self) -> int:
        """The port inside the instance on which `engine` listens. Raises LookupError on an instance without one."""
        return self.programs.seats[0].port

    # Life

    async def boot(self, *, through: Phase = Phase.LOADING) -> None:
        """Come up, by way of the phase `through`. Nothing happens when it is up already."""
        async with self._lock:
            await self._boot(through)

    async def start(self) -> None:
        """Start as the API does: same disk and host key, a new direct port."""
        await self.boot()

    async def stop(self) -> None:
        """Stop as the API does."""
        await self._end(Phase.STOPPED)

    async def die(self) -> None:
        """The container crashes: SSH and engine are gone; the API says exited, still meant to run."""
        await self._end(Phase.CRASHED)

    async def outbid(self) -> None:
        """Somebody pays more: the instance is stopped and its minimum bid rises above what we pay."""
        paying = float(self.contract.row["dph_base"])
        self.contract.row |= {"is_bid": True, "min_bid": round(paying * 1.25 + 0.01, 4)}
        await self._end(Phase.OUTBID)

    async def reboot(self) -> None:
        async with self._lock:
            await self._go_down(Phase.REBOOTING)
            await self._boot(Phase.REBOOTING)

    async def recycle(self) -> None:
        """Destroy the container and make it anew: the host key is another one."""
        async with self._lock:
            await self._go_down(Phase.RECYCLING)
            self.ssh.change_host_key()
            await self._boot(Phase.RECYCLING)

    async def destroy(self) -> None:
        """End for good; the account forgets the contract."""
        self._forget(self.id)
        await self.aclose()

    async def aclose(self) -> None:
        """Close every socket and end every task. May be called twice."""
        await self._chores.aclose()
        async with self._lock:
            await self._go_down(Phase.STOPPED)
            await self.direct.aclose()
            await self.relay.aclose()

    def requested(self, verb: Verb) -> None:
        """The API asks for something; it happens soon."""
        actions = {
            Verb.START: self.start,
            Verb.STOP: self.stop,
            Verb.REBOOT: self.reboot,
            Verb.RECYCLE: self.recycle,
            Verb.DESTROY: self.destroy,
        }
        self._chores.spawn(actions[verb](), name=verb)

    async def _end(self, phase: Phase) -> None:
        async with self._lock:
            await self._go_down(phase)

    async def _boot(self, through: Phase) -> None:
        if self._up:
            return
        self.contract.enter(through)
        await asyncio.sleep(self.boot_s)
        await self.programs.start()
        self.direct.move()
        self._up = True
        if self._ssh_wanted:
            await self._open_paths()
        if not self.relay.port:
            await self.relay.open()
        shift = 1 if self._jupyter else 0
        self.contract.row |= {
            "public_ipaddr": "127.0.0.1\n",
            "ssh_host": "127.0.0.1",
            # The API's port is one below the real one where Jupyter runs (vast.ai CLI, `_ssh_url`).
            "ssh_port": self.relay.port - shift,
            "gpu_util": 4.0,
            "gpu_temp": 41.0,
        }
        if self._jupyter:
            self.contract.row["image_runtype"] = "jupyter_direc ssh_direc ssh_proxy"
        self.contract.enter(Phase.RUNNING, ports=ports(self.direct.port))
        self._note(f"sshd listens on {self.direct.port} (direct) and {self.relay.port} (relay)")

    async def _open_paths(self) -> None:
        if self._direct_wanted:
            await self.direct.open()
        await self.relay.open()

    async def _go_down(self, phase: Phase) -> None:
        self._up = False
        self.contract.enter(phase)
        self._note(f"container: {phase}")
        self.thaw()
        self.direct.refuse()
        self.relay.refuse()
        await self.programs.stop()

    # Harm

    async def kill_ssh(self) -> None:
        """sshd dies: connections end, new ones are refused on both paths. The engine goes on."""
        self._ssh_wanted = False
        self.direct.refuse()
        self.relay.refuse()

    async def restore_ssh(self) -> None:
        """sshd is back on the same ports."""
        async with self._lock:
            self._ssh_wanted = True
            if self._up:
                await self._open_paths()

    async def block_direct(self) -> None:
        """The direct port is refused and its connections end; only the relay works. Outlasts a restart."""
        self._direct_wanted = False
        self.direct.refuse()

    async def unblock_direct(self) -> None:
        async with self._lock:
            self._direct_wanted = True
            if self._up and self._ssh_wanted:
                await self.direct.open()

    def drop_connections(self) -> None:
        """Every SSH connection ends without a goodbye; new ones are accepted."""
        self.direct.cut()
        self.relay.cut()

    def freeze(self) -> None:
        """SSH and engine answer nobody, but TCP stays open: a machine that hangs."""
        self.direct.freeze()
        self.relay.freeze()
        for engine in self.engines:
            engine.freeze()

    def thaw(self) -> None:
        """Go on where `freeze` interrupted."""
        for engine in self.engines:
            engine.thaw()
        self.direct.thaw()
        self.relay.thaw()

    def slow_down(self, factor: float) -> None:
        """Every token takes `factor` times as long as it did at the start; 1 is the normal pace."""
        if factor <= 0:
            raise ValueError("factor must be greater than 0")
        self.engine.slowness = factor

    def change_host_key(self) -> None:
        """New connections meet another host key."""
        self.ssh.change_host_key()

    async def engine_down(self, place: int = 0) -> None:
        """The process of one of `engines` dies: its streams break off, its port refuses. SSH goes on."""
        async with self._lock:
            await self.programs.stop_engine(place)

    async def engine_up(self, place: int = 0) -> None:
        """The process is back."""
        async with self._lock:
            if self._up:
                await self.programs.start_engine(place)

    # What the SSH server asks

    def _authorized(self, key: asyncssh.SSHKey) -> bool:
        offered = tuple(key.export_public_key("openssh").decode().split()[:2])
        return any(offered == known.material for known in self.contract.keys)

    def _route(self, host: str, port: int) -> Path | None:
        return self.programs.route(port) if host in _LOCAL else None

    def _execute(self, command: str) -> Output:
        return run_command(command, self._smi)

    def _smi(self, arguments: list[str]) -> Output:
        load = max((engine.load for engine in self.engines), default=0.0)
        now = self._clock()
        seen = self._gpus.measure(0, load=load, now=now)
        self.contract.row |= {
            "gpu_util": float(seen["utilization.gpu"]),
            "gpu_temp": float(seen["temperature.gpu"]),
        }
        return self._gpus.run(arguments, load=load, now=now)

    def _note(self, line: str) -> None:
        self.contract.log.append(line)

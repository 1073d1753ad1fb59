"""A whole vast.ai account in this process: the API, instances with SSH servers, engines. Loopback only.

async with Simulation(instances=3) as sim:
    ...  # VAST_URL=sim.url VAST_API_KEY=sim.api_key SSH_KEY_PATH=sim.ssh_key_path
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import asyncssh

from vastproxy.simulator.account import Account
from vastproxy.simulator.api import create_api
from vastproxy.simulator.caddy import Doors
from vastproxy.simulator.catalog import ENGINES, GPUS
from vastproxy.simulator.chores import Chores
from vastproxy.simulator.contract import Contract, Phase
from vastproxy.simulator.engine import Engine
from vastproxy.simulator.errors import SimulatorError
from vastproxy.simulator.instance import SimulatedInstance
from vastproxy.simulator.serving import AppServer

#: Every third instance runs Jupyter, so that its relay port follows the "+ 1" rule.
_JUPYTER_EVERY = 3


class Simulation:
    """An async context manager: everything is up inside it, and nothing is left after it.

    `instances` machines run `engines` in turn, serving `model` at `tokens_per_s` after `first_token_s`.
    `seed` fixes what the models answer and what nvidia-smi shows. `boot_s` is how long a start takes.
    `second_engine` runs beside it in each of them, on a port of its own, serving `second_model`. `doors` says which
    ports lead to the first: its own, Caddy's, or both.
    """

    def __init__(
        self,
        *,
        instances: int = 3,
        engines: Sequence[str] = ("sglang", "vllm", "llamacpp"),
        tokens_per_s: float = 60.0,
        seed: int = 0,
        rate_limits: bool = True,
        model: str = "Qwen/Qwen3-8B",
        clock: Callable[[], float] = time.time,
        first_token_s: float = 0.05,
        boot_s: float = 0.0,
        second_engine: str | None = None,
        second_model: str = "Qwen/Qwen3-4B",
        doors: Doors = Doors.OWN,
    ) -> None:
        if instances < 0 or tokens_per_s <= 0:
            raise SimulatorError("a simulation needs instances >= 0 and tokens_per_s > 0")
        wanted = {*engines, *([second_engine] if second_engine else [])}
        if unknown := sorted(wanted - set(ENGINES)):
            raise SimulatorError(f"no such engine: {', '.join(unknown)}; there are {', '.join(ENGINES)}")
        if not engines:
            raise SimulatorError("a simulation needs at least one engine")
        self.account = Account(clock=clock, rate_limits=rate_limits)
        self._count, self._engines, self._model = instances, tuple(engines), model
        self._tokens_per_s, self._first_token_s = tokens_per_s, first_token_s
        self._seed, self._clock, self._boot_s = seed, clock, boot_s
        self._second, self._second_model, self._doors = second_engine, second_model, doors
        self._instances: dict[int, SimulatedInstance] = {}
        self._api = AppServer(create_api(self.account))
        self._chores = Chores("simulation")
        self._directory: Path | None = None

    def __repr__(self) -> str:
        return f"<Simulation {self.url if self._api.running else 'down'} instances={len(self._instances)}>"

    @property
    def url(self) -> str:
        """The API's root: VAST_URL."""
        return f"http://127.0.0.1:{self._api.port}"

    @property
    def api_key(self) -> str:
        """The account's key: VAST_API_KEY."""
        return self.account.api_key

    @property
    def ssh_key_path(self) -> Path:
        """A private key that the instances accept: SSH_KEY_PATH. Exists while the simulation is up."""
        return self._home / "id_ed25519"

    @property
    def instances(self) -> list[SimulatedInstance]:
        """The machines, oldest first; destroyed ones are gone."""
        alive = {contract.id for contract in self.account.contracts}
        return [machine for machine in self._instances.values() if machine.id in alive]

    def instance(self, id: int) -> SimulatedInstance:
        """One machine. Raises LookupError when there is none behind this id."""
        try:
            return self._instances[id]
        except KeyError:
            raise LookupError(f"no simulated instance {id}") from None

    async def __aenter__(self) -> "Simulation":
        try:
            self._directory = await asyncio.to_thread(_make_home)
            public = (await asyncio.to_thread(self.ssh_key_path.with_suffix(".pub").read_text)).strip()
            self.account.add_key(public)
            self.account.on_rented = self._rented
            await self._api.start()
            machines = [self._make(i) for i in range(self._count)]
            await asyncio.gather(*(machine.boot() for machine in machines))
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End everything, within seconds. May be called twice."""
        self.account.on_rented = None
        self.account.faults.clear()
        await self._chores.aclose()
        await asyncio.gather(self._api.stop(), *(machine.aclose() for machine in self._instances.values()))
        directory, self._directory = self._directory, None
        if directory is not None:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    @property
    def _home(self) -> Path:
        if self._directory is None:
            raise SimulatorError("the simulation is not running")
        return self._directory

    def _make(self, index: int) -> SimulatedInstance:
        names = list(GPUS)
        contract = self.account.add(
            gpu=names[index % len(names)],
            num_gpus=2 if index % 4 == 1 else 1,
            engine=self._engines[index % len(self._engines)],
            model=self._model,
            phase=Phase.PROVISIONING,
        )
        return self._put_machine(contract, jupyter=index % _JUPYTER_EVERY == 1)

    def _put_machine(self, contract: Contract, *, jupyter: bool = False) -> SimulatedInstance:
        machine = SimulatedInstance(
            contract,
            self._make_engine(contract, contract.engine, self._model),
            directory=self._home,
            second=self._make_engine(contract, contract.engine and self._second, self._second_model),
            doors=self._doors,
            jupyter=jupyter,
            boot_s=self._boot_s,
            clock=self._clock,
            forget=self.account.remove,
        )
        self._instances[contract.id] = machine
        return machine

    def _make_engine(self, contract: Contract, flavour: str | None, model: str) -> Engine | None:
        if not flavour:
            return None
        gpu = contract.row["gpu_name"]
        return Engine(
            flavour,
            model=model,
            tokens_per_s=self._tokens_per_s,
            first_token_s=self._first_token_s,
            speaker=f"I am {model} on simulated instance {contract.id} ({gpu}, {flavour}).",
            seed=f"{self._seed}/{contract.id}",
        )

    def _rented(self, contract: Contract) -> None:
        machine = self._put_machine(contract)
        self._chores.spawn(machine.boot(), name=f"boot-{contract.id}")


def _make_home() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="vastproxy-sim-"))
    key = asyncssh.generate_private_key("ssh-ed25519", comment="vastproxy-simulator")
    path = directory / "id_ed25519"
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key())
    path.with_suffix(".pub").write_bytes(key.export_public_key())
    return directory

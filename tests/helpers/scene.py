"""A whole stage of real parts: an account, the machines rented in it, and a proxy process that serves them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.helpers.machine import Machine
from tests.helpers.proxy_process import ProxyProcess
from tests.helpers.raw import Answer
from tests.helpers.sshd import make_key
from tests.helpers.vastapi import VastApi

#: The machines that can be rented: what runs in each, and what its nvidia-smi prints.
KINDS = {101: "sglang", 102: "vllm", 103: "llamacpp"}
GPUS = {101: "nvidia_smi_1gpu.txt", 102: "nvidia_smi_8xh100.txt", 103: "nvidia_smi_na_power.txt"}
CHAT = "/v1/chat/completions"
CLIENT_KEY = "the-clients-own-key"


class Scene:
    """See the module's docstring. `api` listens from the start; the rest is begun by `rent` and `serve`."""

    def __init__(self, directory: Path, stack: contextlib.AsyncExitStack) -> None:
        self.directory = directory
        self.key_path = make_key(directory / "id_ed25519")
        self.api = VastApi()
        self.machines: dict[int, Machine] = {}
        self._stack = stack

    async def rent(self, *ids: int, models: Mapping[int, Sequence[str]] | None = None) -> None:
        """Start machines and show them in the account. `models`: what serves something else than the others."""
        made = [
            Machine(
                self.directory / str(id),
                id,
                key_path=self.key_path,
                kind=KINDS[id],
                gpus=GPUS[id],
                models=tuple((models or {}).get(id, ("m", f"model-{id}"))),
            )
            for id in ids
        ]
        await asyncio.gather(*(self._stack.enter_async_context(machine) for machine in made))
        self.machines |= {machine.id: machine for machine in made}
        self.show()

    def show(self) -> None:
        """The account has all machines, as they are now."""
        self.api.set_instances([machine.row for machine in self.machines.values()])

    async def serve(self, *, healthy: int | None = None, **env: str) -> ProxyProcess:
        """Start the proxy, and wait until that many backends (all, unless given) are healthy."""
        proxy = ProxyProcess(
            self.directory,
            api=self.api,
            key_path=self.key_path,
            env=env,
            secrets=[*(machine.token for machine in self.machines.values()), CLIENT_KEY],
        )
        await self._stack.enter_async_context(proxy)
        await proxy.wait_healthy(len(self.machines) if healthy is None else healthy)
        return proxy


@contextlib.asynccontextmanager
async def open_scene(directory: Path) -> AsyncIterator[Scene]:
    """A scene with an empty account; everything in it ends with the block, the proxy first."""
    async with contextlib.AsyncExitStack() as stack:
        scene = Scene(directory, stack)
        await stack.enter_async_context(scene.api)
        yield scene


def chat(*, stream: bool = False, tokens: int = 2, pin: int | None = None, key: str = CLIENT_KEY) -> Any:
    """Headers and body of a chat request, for `ask` and `Client.send`."""
    wanted = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": tokens}
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    if pin is not None:
        headers["x-vastproxy-instance"] = str(pin)
    return {"headers": headers, "body": json.dumps({**wanted, "stream": stream}).encode()}


async def ask(proxy: ProxyProcess, **options: Any) -> Answer:
    """One chat request on a connection of its own; options as of `chat`."""
    return await proxy.ask("POST", CHAT, **chat(**options))


def served_by(answer: Answer) -> int:
    """The instance that answered, and did so well."""
    assert answer.status == 200, answer
    assert answer.complete, answer
    return int(answer.header("x-vastproxy-instance") or 0)

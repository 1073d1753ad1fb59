"""A rented instance made of real parts: OpenSSH's sshd, an engine behind it, GPUs, and its row in the account."""

import asyncio
import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.helpers.builders import make_row
from tests.helpers.engines import FakeEngine
from tests.helpers.sshd import Sshd

_NVIDIA_SMI = Path(__file__).parent.parent / "fixtures" / "nvidia_smi"
_KNOWN = (_NVIDIA_SMI / "nvidia_smi_QUERY.txt").read_text().partition("--query-gpu=")[2].split()[0]
#: Prints what is asked for, in that order; what the samples do not know is not supported.
_PROGRAM = """\
#!/bin/sh
exec awk -F', ' -v asked="${{1#--query-gpu=}}" -v known={known} '
BEGIN {{ n = split(asked, names, ","); k = split(known, columns, ","); for (i = 1; i <= k; i++) at[columns[i]] = i }}
{{
  row = ""
  for (i = 1; i <= n; i++) row = row (i > 1 ? ", " : "") (names[i] in at ? $at[names[i]] : "[N/A]")
  print row
}}' '{rows}'
"""
#: The variable in which an image takes its engine's arguments, and with them the port.
_ARGUMENTS = {"sglang": "SGLANG_ARGS", "vllm": "VLLM_ARGS", "llamacpp": "LLAMA_ARGS"}


class Machine:
    """All machines of a test share one host, so each engine has a port of its own, which only its row tells.

    The engine insists on the instance's token. `gpus` is what its nvidia-smi prints (tests/fixtures/nvidia_smi).
    """

    def __init__(
        self,
        directory: Path,
        instance_id: int,
        *,
        key_path: Path,
        kind: str = "sglang",
        gpus: str = "nvidia_smi_1gpu.txt",
        **engine: Any,
    ) -> None:
        self.id = instance_id
        self.kind = kind
        self.token = f"token-of-{instance_id}"
        self.engine = FakeEngine(kind, **{"token": self.token, **engine})
        programs = directory / "programs"
        programs.mkdir(parents=True)
        program = programs / "nvidia-smi"
        program.write_text(_PROGRAM.format(known=_KNOWN, rows=_NVIDIA_SMI / gpus))
        program.chmod(0o755)
        self.sshd = self._make_sshd(directory / "sshd", programs, key_path)
        self.relay = self._make_sshd(directory / "relay", programs, key_path)
        """What vast.ai's relay would lead to. Not started; start it for tests of that path."""

    @staticmethod
    def _make_sshd(directory: Path, programs: Path, key_path: Path) -> Sshd:
        sshd = Sshd(directory, path_dirs=[programs])
        sshd.authorize(key_path)
        return sshd

    @property
    def row(self) -> dict[str, Any]:
        """Reachable directly; over the relay too once that has a port."""
        return make_row(
            id=self.id,
            jupyter_token=self.token,
            public_ipaddr="127.0.0.1\n",
            ports={"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(self.sshd.port)}]},
            ssh_host="127.0.0.1" if self.relay.port else None,
            ssh_port=self.relay.port or None,
            extra_env=[[_ARGUMENTS[self.kind], f"--host 127.0.0.1 --port {self.engine.port}"]],
        )

    async def start_sshd(self) -> None:
        """Let it be reached; after a `stop_sshd` at the same port."""
        await asyncio.to_thread(self.sshd.start)

    async def stop_sshd(self) -> None:
        """Nobody listens, and all sessions are dead, as when the machine loses power. The engine lives on."""
        await asyncio.to_thread(self.sshd.stop)

    async def start_relay(self) -> None:
        await asyncio.to_thread(self.relay.start)

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, self.relay.stop)
            stack.push_async_callback(self.stop_sshd)
            await stack.enter_async_context(self.engine)
            await self.start_sshd()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

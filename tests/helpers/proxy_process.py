"""`vastproxy serve` as the process that users start, watched from outside.

async with ProxyProcess(tmp_path, api=api, key_path=key) as proxy:
    await proxy.wait_healthy(3)
    proxy.signal(signal.SIGTERM)
    assert await proxy.wait() == 0
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.helpers.processes import ProcessFailed
from tests.helpers.raw import Answer, ask
from tests.helpers.vastapi import VastApi

#: Fast enough for tests, and the same order of things: probes are more frequent than lists are.
FAST = {
    "VASTPROXY_FLEET__POLL_INTERVAL_S": "0.5",
    "VASTPROXY_FLEET__PROBE_INTERVAL_S": "0.3",
    "VASTPROXY_TUNNELS__BACKOFF_MIN_S": "0.2",
    "VASTPROXY_TUNNELS__BACKOFF_MAX_S": "0.5",
    "VASTPROXY_TUNNELS__UPGRADE_INTERVAL_S": "0.5",
    "VASTPROXY_VAST__CACHE__TTL_S": "0.1",
    "VASTPROXY_VAST__RETRIES__ATTEMPTS": "1",
    "VASTPROXY_VAST__MIN_INTERVAL_SCALE": "0.1",
    "VASTPROXY_SERVER__SHUTDOWN_GRACE_S": "5",
    "VASTPROXY_LOGGING__FORMAT": "text",
    "VASTPROXY_ROUTING__POLICY": "round_robin",
    "VASTPROXY_QUEUE__MAX_WAIT_S": "1",
    "VASTPROXY_SERVER__ALLOWED_HOSTS": "proxy.test",
    # Nothing listens on port 1: instances on one host must not find each other's engines.
    "VASTPROXY_ENGINES__PORTS": "1",
}
_LISTENING = re.compile(r"listening on (https?://\S+)")
_LOOK_EVERY_S = 0.05


def environment(directory: Path, **variables: str) -> dict[str, str]:
    """Only what is needed to run, with `directory` as the home; `variables` are added."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("COVERAGE_", "PYTHON"))}
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(directory),
        **kept,
        "PYTHONUNBUFFERED": "1",
        **variables,
    }


class ProxyProcess:
    """One run of `vastproxy serve`. On exit it has ended, with all that it started, and has not failed.

    `secrets` are looked for in everything it wrote, its state directory included, by `check_output`, which also runs
    on exit.
    """

    def __init__(
        self,
        directory: Path,
        *,
        api: VastApi | None = None,
        key_path: Path | None = None,
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = ("serve",),
        secrets: Sequence[str] = (),
    ) -> None:
        self._directory = directory
        self._arguments = list(arguments)
        variables = {"LISTEN_ADDR": "127.0.0.1:0", "VASTPROXY_TUNNELS__STATE_DIR": str(directory / "state")}
        if api is not None:
            variables |= {"VAST_URL": api.url, "VAST_API_KEY": api.account.api_key}
        if key_path is not None:
            variables["SSH_KEY_PATH"] = str(key_path)
        self._env = environment(directory, **{**FAST, **variables, **(env or {})})
        self._secrets = [*secrets, *([api.account.api_key] if api is not None else [])]
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._grown = asyncio.Condition()
        self._written = {"stdout": bytearray(), "stderr": bytearray()}
        self.url = ""

    # -- what it says ----------------------------------------------------------------------------------

    @property
    def output(self) -> str:
        """All that it has written so far."""
        return self.stdout + self.stderr

    @property
    def stdout(self) -> str:
        return self._written["stdout"].decode(errors="replace")

    @property
    def stderr(self) -> str:
        return self._written["stderr"].decode(errors="replace")

    def lines(self, text: str) -> list[str]:
        """The lines written so far that hold `text`."""
        return [line for line in self.output.splitlines() if text in line]

    async def says(self, text: str, *, limit_s: float = 30.0) -> str:
        """Wait until it has written a whole line that holds `text`, and return the first such line."""
        await self._until(
            lambda: any(text in line for line in self.output.split("\n")[:-1]), limit_s, f"says {text!r}"
        )
        return self.lines(text)[0]

    def check_output(self) -> None:
        """No traceback and no secret in anything it wrote."""
        assert "Traceback" not in self.output, self.output
        kept = self.kept_files()
        for secret in self._secrets:
            assert secret not in self.output, f"{secret!r} was written:\n{self.output}"
            for path, data in kept.items():
                assert secret.encode() not in data, f"{secret!r} is in {path}"

    def kept_files(self) -> dict[Path, bytes]:
        """What it keeps in its state directory."""
        found = (self._directory / "state").rglob("*")
        return {path: path.read_bytes() for path in found if path.is_file()}

    # -- what it answers -------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        return await ask(self.port, method, path, headers=headers, body=body)

    async def health(self) -> dict[str, Any]:
        """The body of /healthz, whatever its status."""
        report: dict[str, Any] = json.loads((await self.ask("GET", "/healthz")).body)
        return report

    async def backends(self) -> dict[int, dict[str, Any]]:
        """What /vastproxy/v1/backends says, by id."""
        answer = await self.ask("GET", "/vastproxy/v1/backends")
        return {row["id"]: row for row in json.loads(answer.body)["backends"]}

    async def wait_healthy(self, count: int, *, limit_s: float = 15.0) -> dict[str, Any]:
        """Until exactly `count` backends are healthy; returns the health report that says so."""
        return await self.wait_health(
            lambda report: report["backends"]["healthy"] == count, limit_s=limit_s, what=f"{count} healthy"
        )

    async def wait_health(
        self, condition: Callable[[dict[str, Any]], bool], *, limit_s: float = 30.0, what: str = "condition"
    ) -> dict[str, Any]:
        """Look at /healthz until it fulfils `condition`; returns that report."""
        report: dict[str, Any] = {}
        try:
            async with asyncio.timeout(limit_s):
                while not condition(report := await self.health()):
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            raise ProcessFailed(f"{what}: not within {limit_s:g} s; last {report}\n{self.output}") from None
        return report

    async def wait_backend(
        self, instance_id: int, condition: Callable[[dict[str, Any]], bool], *, limit_s: float = 30.0
    ) -> dict[str, Any]:
        """Look at one backend until it fulfils `condition`; returns its row."""
        row: dict[str, Any] | None = None
        try:
            async with asyncio.timeout(limit_s):
                while (row := (await self.backends()).get(instance_id)) is None or not condition(row):
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            raise ProcessFailed(
                f"backend {instance_id}: not within {limit_s:g} s; last {row}\n{self.output}"
            ) from None
        return row

    # -- life ------------------------------------------------------------------------------------------

    async def run(self, *, limit_s: float = 40.0) -> int:
        """Start it and wait for its end, for runs that end by themselves. Returns the exit code."""
        await self._launch()
        return await self.wait(limit_s=limit_s)

    async def start(self) -> None:
        """Start it and wait until it listens."""
        await self._launch()
        line = await self.says("listening on http", limit_s=30.0)
        found = _LISTENING.search(line)
        assert found is not None, line
        self.url = found[1]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone, as a service manager does."""
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self, *, limit_s: float = 15.0) -> int:
        """Wait for its end, and for all that it has written. Returns the exit code."""
        assert self._process is not None
        try:
            async with asyncio.timeout(limit_s):
                code = await self._process.wait()
                await asyncio.gather(*self._readers)
        except TimeoutError:
            raise ProcessFailed(f"did not end within {limit_s:g} s\n{self.output}") from None
        return code

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends it politely if it runs. When the test itself has not failed, a bad end fails it."""
        complaint = await self._end()
        if error is None:
            assert not complaint, f"{complaint}\n{self.output}"
            self.check_output()
        else:
            error.add_note(f"the proxy wrote:\n{self.output}")

    async def _launch(self) -> None:
        assert self._process is None, "already started"
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "vastproxy", *self._arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._env,
            cwd=self._directory,
            start_new_session=True,
        )
        for name, stream in (("stdout", self._process.stdout), ("stderr", self._process.stderr)):
            assert stream is not None
            task = asyncio.get_running_loop().create_task(self._read(name, stream), name=f"proxy {name}")
            self._readers.append(task)

    async def _read(self, name: str, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(1 << 16):
            self._written[name] += data
            async with self._grown:
                self._grown.notify_all()

    async def _until(self, condition: Callable[[], bool], limit_s: float, what: str) -> None:
        assert self._process is not None

        def is_over() -> bool:
            return condition() or all(task.done() for task in self._readers)

        try:
            async with asyncio.timeout(limit_s):
                while not is_over():
                    async with self._grown:
                        with contextlib.suppress(TimeoutError):  # an end without a last word is seen too
                            async with asyncio.timeout(_LOOK_EVERY_S):
                                await self._grown.wait()
        except TimeoutError:
            raise ProcessFailed(f"{what}: not within {limit_s:g} s\n{self.output}") from None
        if not condition():
            raise ProcessFailed(f"{what}: it ended before\n{self.output}")

    async def _end(self) -> str:
        """End it if it runs, and everything in its process group. Returns what was wrong with its end."""
        if self._process is None:
            return ""
        complaint = ""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGTERM)
            try:
                code = await self.wait(limit_s=15.0)
                complaint = "" if code == 0 else f"it ended with {code} after SIGTERM"
            except ProcessFailed:
                complaint = "it did not end within 15 s of SIGTERM"
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nothing is left in its group
        else:
            complaint = complaint or "it left processes behind"
        await self._process.wait()
        await asyncio.gather(*self._readers)
        return complaint

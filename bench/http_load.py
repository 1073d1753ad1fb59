"""The load of whole requests: wrk, which is compiled and needs one thread, told what to send by a script."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.answers import CHAT
from bench.processes import HELPERS_CORE, BenchError

_MARK = "RESULT "
#: wrk's own limit for an answer; LiteLLM takes seconds under load.
_TIMEOUT_S = 30

# The body is read once, so that a request costs wrk nothing but a write.
_SCRIPT = """
local file = io.open("{body}", "rb")
wrk.method = "POST"
wrk.path = "{path}"
wrk.body = file:read("*a")
file:close()
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer {key}"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{mark}{{"requests": %d, "bytes": %d, "duration_us": %d, "p50_us": %d, "p90_us": %d, "p99_us": %d, ' ..
    '"max_us": %d, "connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\\n',
    summary.requests, summary.bytes, summary.duration, latency:percentile(50), latency:percentile(90),
    latency:percentile(99), latency.max, e.connect, e.read, e.write, e.status, e.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class HttpFigures:
    """What wrk saw."""

    requests: int
    seconds: float
    bytes: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    errors: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0


def parse_result(output: str) -> HttpFigures:
    """The figures from what wrk wrote. Raises BenchError when there are none."""
    for line in output.splitlines():
        if line.startswith(_MARK):
            raw: dict[str, Any] = json.loads(line.removeprefix(_MARK))
            return HttpFigures(
                requests=raw["requests"],
                seconds=raw["duration_us"] / 1e6,
                bytes=raw["bytes"],
                p50_ms=raw["p50_us"] / 1000,
                p90_ms=raw["p90_us"] / 1000,
                p99_ms=raw["p99_us"] / 1000,
                max_ms=raw["max_us"] / 1000,
                errors=sum(raw[kind] for kind in ("connect", "read", "write", "status", "timeout")),
            )
    last = output.strip().splitlines()[-1:] or ["it wrote nothing"]
    raise BenchError(f"wrk gave no figures: {last[0]}")


class HttpLoad:
    """Asks one address with one body, on so many connections."""

    def __init__(self, directory: Path, url: str, *, body: bytes, key: str, connections: int) -> None:
        self._url = url
        self._connections = connections
        (directory / "body").write_bytes(body)
        self._script = directory / "wrk.lua"
        self._script.write_text(script(directory / "body", key))

    def run(self, seconds: float) -> HttpFigures:
        """Load it for so long. Raises BenchError when wrk fails."""
        argv = ["setpriv", "--pdeathsig", "KILL", "taskset", "--cpu-list", str(HELPERS_CORE), "wrk"]
        argv += ["-t1", f"-c{self._connections}", f"-d{max(1, round(seconds))}s", "--latency"]
        argv += ["--timeout", f"{_TIMEOUT_S}s", "-s", str(self._script), self._url]
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds + _TIMEOUT_S + 10,
            )
        except subprocess.TimeoutExpired:
            raise BenchError("wrk did not end in time") from None
        return parse_result(done.stdout + done.stderr)


def script(body: Path, key: str) -> str:
    """What wrk is told, in Lua."""
    return _SCRIPT.format(body=body, path=CHAT, key=key, mark=_MARK)

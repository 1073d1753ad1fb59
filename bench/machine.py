"""The machine that is measured on: its name, the versions of what runs on it, how busy its cores are."""

import contextlib
import importlib.metadata
import os
import platform
import re
import resource
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

import vastproxy
from bench.processes import CONTENDER_CORE, HELPERS_CORE, BenchError
from vastproxy.services.process import is_compiled

#: Streams, times two for a proxy, and some.
FILES_WANTED = 65_536


def describe_machine() -> dict[str, Any]:
    """What a reader needs to judge the figures."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    meminfo = Path("/proc/meminfo").read_text()
    return {
        "cpu": read_field(cpuinfo, "model name"),
        "mhz": read_field(cpuinfo, "cpu MHz"),
        "cores": os.cpu_count(),
        "memory_gib": round(int(read_field(meminfo, "MemTotal").split()[0]) / 2**20, 1),
        "kernel": platform.release(),
        "system": _system_name(),
        "python": platform.python_version(),
        "is_virtual": "hypervisor" in read_field(cpuinfo, "flags").split(),
    }


def read_field(text: str, name: str) -> str:
    """The first value of `name` in a file such as /proc/cpuinfo; "unknown" when there is none."""
    found = re.search(rf"(?m)^{re.escape(name)}\s*:\s*(.*)$", text)
    return found[1].strip() if found else "unknown"


def _system_name() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r'(?m)^PRETTY_NAME="?([^"\n]+)', Path("/etc/os-release").read_text())
        if found:
            return found[1]
    return platform.system()


def describe_versions(bench_python: Path) -> dict[str, str]:
    """The version of every program that takes part."""
    versions = {
        "vastproxy": f"{vastproxy.__version__}{' (compiled)' if is_compiled() else ''}",
        "asyncssh": importlib.metadata.version("asyncssh"),
        "uvloop": importlib.metadata.version("uvloop"),
        "nginx": _first(["nginx", "-v"], r"nginx/(\S+)"),
        "openssh": _first(["ssh", "-V"], r"OpenSSH_([^\s,]+)"),
        "wrk": _first(["wrk", "-v"], r"wrk\s+(\S+)"),
    }
    for name in ("vllm-router", "sglang-router", "litellm"):
        code = f"import importlib.metadata as m; print('version', m.version('{name}'))"
        versions[name] = _first([str(bench_python), "-c", code], r"version (\S+)")
    return versions


def _first(argv: list[str], pattern: str) -> str:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
    try:
        done = subprocess.run(
            argv, env={"PATH": path}, capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return "missing"
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else "missing"


def busy_jiffies(stat: str, core: int) -> tuple[int, int]:
    """Busy and total ticks of one core since boot, from the text of /proc/stat."""
    for line in stat.splitlines():
        words = line.split()
        if words and words[0] == f"cpu{core}":
            ticks = [int(word) for word in words[1:9]]  # guest time is a part of user time
            return sum(ticks) - ticks[3] - ticks[4], sum(ticks)
    raise BenchError(f"this machine has no core {core}; the bench needs two")


class CoreWatch:
    """How busy a core is, from when it was made."""

    def __init__(self, core: int) -> None:
        self._core = core
        self._began = self._read()

    def _read(self) -> tuple[int, int]:
        return busy_jiffies(Path("/proc/stat").read_text(), self._core)

    def share(self) -> float:
        """0 to 1."""
        busy, total = self._read()
        return (busy - self._began[0]) / max(1, total - self._began[1])


def require_cores(allowed: Collection[int]) -> None:
    """Raises BenchError unless both cores of the bench are among those that this process may use."""
    if missing := {HELPERS_CORE, CONTENDER_CORE} - set(allowed):
        raise BenchError(f"the bench needs cores 0 and 1, and may not use core {min(missing)} here")


def raise_file_limit() -> int:
    """Let this process and what it starts hold as many files as may be needed. Returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else max(hard, FILES_WANTED)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

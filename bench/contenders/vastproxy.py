"""`vastproxy serve` as users start it: an account, two instances over SSH, inbound keys, access log, probes, labels."""

import contextlib
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from bench.account import run_account
from bench.contenders.base import CLIENT_KEY, Running
from bench.engines import Engines
from bench.processes import CONTENDER_CORE, BenchError, Program, free_port
from bench.sshd import make_key, run_sshd

_ACCOUNT_KEY = "0123456789abcdef" * 4
_ROOT = Path(__file__).resolve().parents[2]
#: Made by scripts/compiled.sh.
_COMPILED = _ROOT / "build" / "compiled"


def start(directory: Path, engines: Engines) -> AbstractContextManager[Running]:
    """Over SSH, the compiled build."""
    return _start_over_ssh(compiled_tree(), directory, engines)


def start_python(directory: Path, engines: Engines) -> AbstractContextManager[Running]:
    """Over SSH, interpreted."""
    return _start_over_ssh(interpreted_tree(), directory, engines)


def interpreted_tree() -> Path:
    """Where the sources are."""
    return _ROOT


def compiled_tree() -> Path:
    """Where the compiled build is. Raises BenchError."""
    if not (_COMPILED / ".made-from").exists():
        raise BenchError(f"{_COMPILED} is missing; make it: scripts/compiled.sh {sys.executable}")
    return _COMPILED


def python_of(tree: Path, module: str) -> tuple[list[str], dict[str, str]]:
    """How a module of `tree` is run, and with which variables."""
    return [sys.executable, "-P", "-m", module], {"PYTHONPATH": str(tree)}


@contextlib.contextmanager
def _start_over_ssh(tree: Path, directory: Path, engines: Engines) -> Iterator[Running]:
    key = make_key(directory / "id_ed25519")
    with contextlib.ExitStack() as stack:
        instances = []
        for number, port in enumerate(engines.ports):
            sshd = stack.enter_context(run_sshd(directory / f"instance-{number}", key))
            instances.append({"ssh_port": sshd.port, "engine_port": port})
        api = stack.enter_context(run_account(directory, _ACCOUNT_KEY, instances))
        argv, env = python_of(tree, "vastproxy")
        env |= {"SSH_KEY_PATH": str(key), "VASTPROXY_TUNNELS__STATE_DIR": str(directory / "state")}
        yield stack.enter_context(serving([*argv, "serve"], directory, api, len(instances), env))


@contextlib.contextmanager
def start_plain(directory: Path, engines: Engines) -> Iterator[Running]:
    """The same server, compiled, with tunnels of plain TCP (`bench.ours_plain`)."""
    instances = [{"ssh_port": 22, "engine_port": port} for port in engines.ports]
    with run_account(directory, _ACCOUNT_KEY, instances) as api:
        argv, env = python_of(compiled_tree(), "bench.ours_plain")
        with serving(argv, directory, api, len(instances), env) as running:
            yield running


@contextlib.contextmanager
def serving(
    argv: list[str], directory: Path, api: str, backends: int, env: dict[str, str]
) -> Iterator[Running]:
    """One run of the server, from the moment at which all backends are healthy."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = directory / "vastproxy.log"
    variables = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(directory),
        "VAST_URL": api,
        "VAST_API_KEY": _ACCOUNT_KEY,
        "VASTPROXY_API_KEYS": CLIENT_KEY,
        "LISTEN_ADDR": f"127.0.0.1:{port}",
        # The instances share this host and must not find each other's engines; nothing listens on port 1.
        "VASTPROXY_ENGINES__PORTS": "1",
        **env,
    }
    program = Program(
        argv,
        core=CONTENDER_CORE,
        log=log,
        env=variables,
        ready=lambda: healthy_backends(url) == backends,
        ready_limit_s=40.0,
    )
    with program:
        yield Running(url, (program,), access_log=log)


def healthy_backends(url: str) -> int:
    """How many backends a running vastproxy calls healthy; 0 while it does not answer."""
    try:
        request = urllib.request.Request(f"{url}/healthz", headers={"authorization": f"Bearer {CLIENT_KEY}"})
        with urllib.request.urlopen(request, timeout=2) as answer:
            report = json.load(answer)
    except urllib.error.HTTPError as error:
        error.close()
        return 0
    except (OSError, ValueError):
        return 0
    return int(report["backends"]["healthy"])

"""`vastproxy serve` as users start it: an account, two instances over SSH, inbound keys, access log, probes, labels."""

import contextlib
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench.account import run_account
from bench.contenders.base import CLIENT_KEY, Running
from bench.engines import Engines
from bench.processes import CONTENDER_CORE, Program, free_port
from bench.sshd import make_key, run_sshd

_ACCOUNT_KEY = "0123456789abcdef" * 4


@contextlib.contextmanager
def start(directory: Path, engines: Engines) -> Iterator[Running]:
    """Over SSH."""
    key = make_key(directory / "id_ed25519")
    with contextlib.ExitStack() as stack:
        instances = []
        for number, port in enumerate(engines.ports):
            sshd = stack.enter_context(run_sshd(directory / f"instance-{number}", key))
            instances.append({"ssh_port": sshd.port, "engine_port": port})
        api = stack.enter_context(run_account(directory, _ACCOUNT_KEY, instances))
        env = {"SSH_KEY_PATH": str(key), "VASTPROXY_TUNNELS__STATE_DIR": str(directory / "state")}
        argv = [sys.executable, "-m", "vastproxy", "serve"]
        yield stack.enter_context(serving(argv, directory, api, len(instances), env))


@contextlib.contextmanager
def start_plain(directory: Path, engines: Engines) -> Iterator[Running]:
    """The same server with tunnels of plain TCP (`bench.ours_plain`)."""
    instances = [{"ssh_port": 22, "engine_port": port} for port in engines.ports]
    with run_account(directory, _ACCOUNT_KEY, instances) as api:
        argv = [sys.executable, "-m", "bench.ours_plain"]
        with serving(argv, directory, api, len(instances), {}) as running:
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

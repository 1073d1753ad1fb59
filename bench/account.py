"""The vast.ai account of the bench: `python -m bench.account KEY INSTANCES`, a process of its own.

INSTANCES is a JSON list of {"ssh_port", "engine_port"}; all instances are on this machine and run vLLM. Prints the
address of the API once it listens.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.processes import HELPERS_CORE, Program
from vastproxy.simulator.account import Account
from vastproxy.simulator.api import create_api
from vastproxy.simulator.payloads import ports
from vastproxy.simulator.serving import AppServer


async def serve(key: str, instances: list[dict[str, int]]) -> None:
    """Serve the account until cancelled."""
    account = Account(api_key=key)
    for instance in instances:
        account.add(
            engine="vllm",
            public_ipaddr="127.0.0.1\n",
            ports=ports(instance["ssh_port"]),
            extra_env=[["VLLM_ARGS", f"--host 127.0.0.1 --port {instance['engine_port']}"]],
            # Nothing but the direct way exists here.
            ssh_host=None,
            ssh_port=None,
        )
    server = AppServer(create_api(account))
    await server.start()
    sys.stdout.write(f"http://127.0.0.1:{server.port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


@contextlib.contextmanager
def run_account(directory: Path, key: str, instances: list[dict[str, int]]) -> Iterator[str]:
    """The address of a running account with these instances."""
    log = directory / "account.log"
    argv = [sys.executable, "-m", "bench.account", key, json.dumps(instances)]
    with Program(argv, core=HELPERS_CORE, log=log, ready=lambda: "http://" in _read(log)):
        yield next(line for line in _read(log).splitlines() if line.startswith("http://")).strip()


def _read(log: Path) -> str:
    text = log.read_text() if log.exists() else ""
    return text if text.endswith("\n") else ""


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], json.loads(sys.argv[2])))

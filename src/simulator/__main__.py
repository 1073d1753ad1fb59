"""A simulated account for whatever you want to try: `python -m vastproxy.simulator [OPTIONS] [COMMAND …]`.

With a command it runs that with the account in its environment, and ends with its exit code. Without one it prints
the variables as lines for a shell and stays until Ctrl-C.

    python -m vastproxy.simulator vastproxy serve
    python -m vastproxy.simulator --instances 5 python examples/list_instances.py
"""

import argparse
import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence

from vastproxy.simulator.simulation import Simulation

#: What a shell answers for a command that is not there.
NO_SUCH_COMMAND = 127


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the command; 0 without one."""
    parser = argparse.ArgumentParser(
        prog="python -m vastproxy.simulator",
        description="Run a command with a simulated vast.ai account, or print how to reach one.",
    )
    parser.add_argument("--instances", type=int, default=3, help="simulated GPU instances (3)")
    parser.add_argument("--tokens-per-s", type=float, default=60.0, help="speed of each engine (60)")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND …", help="what to run")
    given = parser.parse_args(arguments)
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    simulation = Simulation(instances=given.instances, tokens_per_s=given.tokens_per_s)
    try:
        return asyncio.run(_run(simulation, command))
    except KeyboardInterrupt:
        return 0


async def _run(simulation: Simulation, command: Sequence[str]) -> int:
    async with simulation:
        account = environment(simulation)
        if command:
            return await _outcome(command, account)
        lines = [f"export {name}={shlex.quote(value)}" for name, value in account.items()]
        sys.stdout.write("\n".join([*lines, "# this account is there until you press Ctrl-C", ""]))
        sys.stdout.flush()
        await asyncio.Event().wait()
    return 0


def environment(simulation: Simulation) -> Mapping[str, str]:
    """The variables that lead vastproxy and vast.ai's own command line to this account. What vastproxy keeps (host
    keys, keys of clients) goes where the account is, and ends with it."""
    return {
        "VAST_URL": simulation.url,
        "VAST_API_KEY": simulation.api_key,
        "SSH_KEY_PATH": str(simulation.ssh_key_path),
        "VASTPROXY_TUNNELS__STATE_DIR": str(simulation.ssh_key_path.with_name("state")),
    }


async def _outcome(command: Sequence[str], account: Mapping[str, str]) -> int:
    """Run it to its end. It has Ctrl-C from the terminal itself; a SIGTERM for us is meant for it."""
    try:
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **account})
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return NO_SUCH_COMMAND
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.add_signal_handler(signal.SIGTERM, _pass_on, process, signal.SIGTERM)
    try:
        code = await process.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return code if code >= 0 else 128 - code


def _pass_on(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        process.send_signal(number)


if __name__ == "__main__":
    sys.exit(main())

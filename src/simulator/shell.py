"""The few commands that a simulated instance understands; all others are not found. Pure."""

import re
import shlex
from collections.abc import Callable

from vastproxy.simulator.nvidia_smi import Output

#: Runs nvidia-smi with these arguments.
Smi = Callable[[list[str]], Output]

_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_REDIRECT = re.compile(r"\s(?:[0-9]?>>?\s?/dev/null|2>&1)(?=\s|$)")
_NOT_FOUND = 127


def run_command(command: str, smi: Smi) -> Output:
    """What the command leaves. Known: nvidia-smi, true, false, echo, hostname; timeout, env, exec before."""
    quiet = re.search(r"(?:^|\s)1?>\s?/dev/null(?=\s|$)", command) is not None
    try:
        words = shlex.split(_REDIRECT.sub(" ", f" {command} "))
    except ValueError:
        return Output("", 2, "bash: -c: line 1: unexpected EOF while looking for matching quote\n")
    output = _run(_strip(words), smi)
    return Output("", output.status, output.stderr) if quiet else output


def _strip(words: list[str]) -> list[str]:
    """Without what only says how to run it: assignments, `env`, `exec`, `timeout [options] SECONDS`."""
    while words:
        if _ASSIGNMENT.match(words[0]) or words[0] in ("env", "exec"):
            words = words[1:]
        elif words[0] == "timeout":
            words = words[1:]
            while words and words[0].startswith("-"):
                words = words[2:] if words[0] in ("-k", "-s") else words[1:]
            words = words[1:]
        else:
            break
    return words


def _run(words: list[str], smi: Smi) -> Output:
    match words:
        case [] | ["true", *_] | [":", *_]:
            return Output()
        case ["false", *_]:
            return Output(status=1)
        case ["echo", *rest]:
            return Output(" ".join(rest) + "\n")
        case ["hostname", *_]:
            return Output("simulated-instance\n")
        case ["nvidia-smi", *rest]:
            return smi(rest)
        case _:
            return Output("", _NOT_FOUND, f"bash: line 1: {words[0]}: command not found\n")

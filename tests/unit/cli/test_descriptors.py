"""The limit of open files, in processes of their own: it cannot be raised again once it was lowered."""

import resource
import subprocess
import sys

import pytest

_PROGRAM = """
import logging, resource, sys
logging.basicConfig(format="%(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
from vastproxy.cli.descriptors import raise_open_files
print(raise_open_files(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def _run(soft: int, hard: int) -> tuple[str, str]:
    command = [sys.executable, "-c", _PROGRAM, str(soft), str(hard)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip(), done.stderr.strip()


def test_the_soft_limit_becomes_the_hard_one() -> None:
    """As many clients as the system allows, not as the shell does."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] not in range(4096, 1 << 31):
        pytest.skip("the hard limit here is too low, or none")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert _run(256, hard) == (f"{hard} {hard} {hard}", "")


def test_a_low_limit_is_said_with_the_remedy() -> None:
    """Who cannot have more hears how many clients that means, and where to raise it."""
    out, err = _run(256, 512)
    assert out == "512 512 512"
    assert "at most 512 files" in err
    assert "ulimit -n" in err

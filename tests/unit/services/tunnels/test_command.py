"""How commands are guarded, so that they die with their channel. Run by the real sh."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.helpers.processes import is_running, wait_until
from vastproxy.services.tunnels.command import guarded


@contextlib.contextmanager
def session(command: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The command as sshd starts it: by a shell, in a session of its own, with pipes."""
    argv = ["/bin/sh", "-c", guarded(command)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("command", "status", "stdout", "stderr"),
    [
        ("echo 'a  b' \"$HOME\" >/dev/null; echo done", 0, b"done\n", b""),
        ("echo err >&2; exit 7", 7, b"", b"err\n"),
        ("cat; echo end", 0, b"end\n", b""),
        ("printf '%s' \"it's\"", 0, b"it's", b""),
        ("false", 1, b"", b""),
        ("echo one\necho two", 0, b"one\ntwo\n", b""),
    ],
)
def test_a_guarded_command_behaves_as_without(
    command: str, status: int, stdout: bytes, stderr: bytes
) -> None:
    """Quotes, status, both outputs; its input is empty although ours stays open."""
    with session(command) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert (process.stdout.read(), process.stderr.read()) == (stdout, stderr)
        assert process.wait(10) == status


def test_a_guarded_command_dies_when_its_input_ends() -> None:
    """Also one that ignores SIGHUP and SIGTERM, and what it started."""
    with session("trap '' HUP TERM; sleep 1000 & echo $!; sleep 1000") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert is_running(child)
        process.stdin.close()
        assert process.wait(10) == -signal.SIGKILL
        wait_until(lambda: not is_running(child), limit_s=5, what="its child has ended")


def test_what_a_command_leaves_running_on_purpose_survives_its_end() -> None:
    """The guard ends with the command, so a daemon that it started is not killed afterwards."""
    with session("sleep 1000 >/dev/null 2>&1 & echo $!") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert process.wait(10) == 0
        process.stdin.close()
        assert process.stdout.read() == b""
        assert is_running(child)
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("command", ["true", "timeout 10 nvidia-smi --query-gpu=index --format=csv,noheader"])
def test_what_ends_in_its_own_time_is_not_guarded(command: str) -> None:
    assert guarded(command) == command


@pytest.mark.parametrize(
    "command", ["timeout 1 a; b", "timeout 1 a\nb", "timeout 1 $(b)", "timeouts", "true; b"]
)
def test_everything_else_is_guarded(command: str) -> None:
    assert guarded(command).startswith("exec sh -c ")

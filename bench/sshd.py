"""Instances' SSH servers: Debian's sshd on loopback, with keys and a configuration of their own."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.plain_tunnel import gpu_text
from bench.processes import HELPERS_CORE, BenchError, Program, free_port

_SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin")


@dataclass(frozen=True, slots=True)
class Sshd:
    """One that runs."""

    port: int
    program: Program

    @property
    def username(self) -> str:
        return getpass.getuser()


def sbin(name: str) -> str:
    """The full path of a program that may not be on a user's PATH. Raises BenchError."""
    found = shutil.which(name, path=os.pathsep.join((*_SBIN, os.environ.get("PATH", ""))))
    if found is None:
        raise BenchError(f"{name} is not installed; run make bench, or scripts/system.sh python3 bench")
    return found


def make_key(path: Path) -> Path:
    """A key pair without a passphrase; `path` is the private half."""
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    return path


@contextlib.contextmanager
def run_sshd(directory: Path, client_key: Path) -> Iterator[Sshd]:
    """An sshd that accepts this key and has an nvidia-smi, for as long as the block lasts."""
    directory.mkdir(parents=True)
    programs, home = directory / "programs", directory / "home"
    programs.mkdir()
    home.mkdir()
    (directory / "gpus").write_text(gpu_text(1))
    smi = programs / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\nexec cat '{directory / 'gpus'}'\n")
    smi.chmod(0o755)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its privilege separation directory
    port = free_port()
    config = directory / "sshd_config"
    config.write_text(_config(directory, port, programs, home, client_key))
    argv = [sbin("sshd"), "-D", "-e", "-f", str(config)]
    log = directory / "sshd.log"
    with Program(argv, core=HELPERS_CORE, log=log, ready=lambda: _greets(port)) as program:
        yield Sshd(port, program)


def _config(directory: Path, port: int, programs: Path, home: Path, client_key: Path) -> str:
    host_key = make_key(directory / "host_key")
    (directory / "authorized_keys").write_text(client_key.with_suffix(".pub").read_text())
    path = os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)])
    lines = [
        "ListenAddress 127.0.0.1",
        f"Port {port}",
        f"HostKey {host_key}",
        f"AuthorizedKeysFile {directory / 'authorized_keys'}",
        "AllowTcpForwarding local",
        "PidFile none",
        "UsePAM no",
        "StrictModes no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "MaxStartups 100",
        "LogLevel ERROR",
        f'SetEnv "PATH={path}" "HOME={home}"',
    ]
    return "\n".join(lines) + "\n"


def _greets(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
        return sock.recv(4) == b"SSH-"
    return False

"""A real OpenSSH server for tests: own keys, own configuration, a port of its own on loopback."""

import contextlib
import functools
import getpass
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.helpers.ports import free_port
from tests.helpers.processes import Process, ProcessFailed, end_all, with_environment

_PORT_TRIES = 5
#: Where Debian, Fedora, Alpine and macOS keep it; it insists on being called by its full path.
_SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin")


@functools.cache
def sshd_binary() -> str:
    """The full path of sshd. Raises ProcessFailed where OpenSSH's server is not installed."""
    found = shutil.which("sshd", path=os.pathsep.join((*_SBIN, os.environ.get("PATH", ""))))
    if found is None:
        raise ProcessFailed("sshd is not installed; on Debian: apt-get install openssh-server")
    return found


@functools.cache
def sshd_version() -> tuple[int, int]:
    """The version of sshd, such as (9, 2)."""
    # Before 9.2 there was no -V; the complaint about it names the version as well.
    answer = subprocess.run([sshd_binary(), "-V"], capture_output=True, text=True, check=False)
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", answer.stderr + answer.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def make_key(path: Path, *, kind: str = "ed25519", passphrase: str = "", pem: bool = False) -> Path:
    """Generate a key pair with ssh-keygen; `path` is the private half."""
    form = ["-m", "PEM"] if pem else []
    argv = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", *form, "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return path


class Sshd:
    """sshd on 127.0.0.1, used as a context manager. It logs in the user who runs the tests.

    Remote commands have an empty home directory of their own: the start-up files of whoever runs the tests
    do not run, and no command outlives the server, as it is known by that directory.
    `path_dirs` come first in PATH of remote commands, so that scripts in them stand for programs such
    as nvidia-smi. `config` are further lines of sshd_config.
    """

    def __init__(
        self, directory: Path, *, path_dirs: Sequence[Path] = (), config: Sequence[str] = (), banner: str = ""
    ) -> None:
        self._directory = directory
        self._path_dirs = tuple(path_dirs)
        self._config = tuple(config)
        self._banner = banner
        self._process: Process | None = None
        self.port = 0
        self.home = directory / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.host_key_path = make_key(directory / "host_key")
        self.client_key_path = make_key(directory / "client_key")
        self.authorize(self.client_key_path)

    @property
    def username(self) -> str:
        """Who may log in: root, or who runs the tests."""
        return getpass.getuser()

    @property
    def host_key(self) -> str:
        """Its public host key: "ssh-ed25519 AAAA…"."""
        return " ".join(self.host_key_path.with_suffix(".pub").read_text().split()[:2])

    @property
    def log(self) -> str:
        """What sshd has logged, over all its starts."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def authorize(self, *key_paths: Path) -> None:
        """Accept exactly these keys from the next login on. None: nobody can log in."""
        lines = [path.with_name(path.name + ".pub").read_text() for path in key_paths]
        (self._directory / "authorized_keys").write_text("".join(lines))

    def new_host_key(self, *, kind: str = "ed25519") -> None:
        """Replace the host key; counts from the next start on, as when a container is recreated."""
        for path in (self.host_key_path, self.host_key_path.with_suffix(".pub")):
            path.unlink()
        make_key(self.host_key_path, kind=kind)

    def start(self) -> Self:
        """Start and wait for its greeting; after a `stop` on the same port."""
        assert self._process is None, "already started"
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its privilege separation directory
        if self.port:
            self._process = self._launch(self.port)
            return self
        for left in reversed(range(_PORT_TRIES)):
            port = free_port()
            try:
                self._process = self._launch(port)
            except ProcessFailed:
                if not left:
                    raise
            else:
                self.port = port
                break
        return self

    def stop(self) -> None:
        """End the server, all its sessions and what they left running. May be called twice."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
        end_all(lambda: with_environment(f"HOME={self.home}"))

    def children(self) -> list[int]:
        """Everything below the listener: sessions, and the commands that run in them."""
        return self._running.children()

    def freeze(self) -> None:
        """Nobody answers any more, and no connection breaks, as when a host hangs."""
        self._running.freeze()

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._running.thaw()

    def kill_sessions(self) -> None:
        """Kill every session at once, as when the container dies; the listener goes on."""
        end_all(self.children)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _running(self) -> Process:
        assert self._process is not None, "not started"
        return self._process

    @property
    def _log_path(self) -> Path:
        return self._directory / "sshd.log"

    def _launch(self, port: int) -> Process:
        config = self._directory / "sshd_config"
        config.write_text("\n".join(self._lines(port)) + "\n")
        argv = [sshd_binary(), "-D", "-e", "-f", str(config)]
        return Process(argv, log=self._log_path, ready=lambda: _greets(port)).start()

    def _lines(self, port: int) -> list[str]:
        lines = [
            "ListenAddress 127.0.0.1",
            f"Port {port}",
            f"HostKey {self.host_key_path}",
            f"AuthorizedKeysFile {self._directory / 'authorized_keys'}",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "MaxStartups 100",
            "LogLevel VERBOSE",
        ]
        path = os.pathsep.join([*map(str, self._path_dirs), os.environ.get("PATH", os.defpath)])
        lines.append(f'SetEnv "PATH={path}" "HOME={self.home}"')
        if self._banner:
            (self._directory / "banner").write_text(self._banner)
            lines.append(f"Banner {self._directory / 'banner'}")
        if sshd_version() >= (9, 8):
            lines.append("PerSourcePenalties no")  # all tests come from one address, and some fail to log in
        # The first mention of a keyword counts.
        return [*self._config, "AllowTcpForwarding local", *lines]


def _greets(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
        return sock.recv(4) == b"SSH-"
    return False

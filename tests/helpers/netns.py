"""A host of its own: a network namespace of Linux, joined to ours by a virtual cable that can be pulled.

with Namespace() as host, NamespacedSshd(host, tmp_path / "sshd") as sshd:
    ...                  # sshd answers at (host.address, sshd.port)
    host.unplug()        # packets vanish, nobody is told
    host.plug_in()       # and arrive again
    host.reboot()        # the host is there and knows of no connection: it answers with resets

Needs root and iproute2, and a kernel that has namespaces and virtual cables (veth): `why_not()` says what is missing.
"""

import contextlib
import functools
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.helpers.processes import Process
from tests.helpers.sshd import Sshd, sshd_binary

_SBIN = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
_LIMIT_S = 10
#: Each test process has 64 networks of four addresses in 198.18.0.0/15, which is set aside for tests (RFC 2544).
_NETWORKS = itertools.count()
_NETWORKS_EACH = 64


class NoNamespace(Exception):
    """A namespace cannot be made here. One line for a person."""


@functools.cache
def why_not() -> str | None:
    """Why namespaces cannot be used by this process, after an attempt; None where they can."""
    if os.getuid() != 0:
        return "network namespaces need root"
    try:
        with Namespace():
            return None
    except NoNamespace as error:
        return f"no network namespaces here: {error}"


class Namespace:
    """See the module's docstring. A context manager; raises NoNamespace on entry where it is not possible."""

    def __init__(self) -> None:
        number = next(_NETWORKS) % _NETWORKS_EACH
        self.name = f"vp{os.getpid()}n{number}"
        self._cable = f"vp{os.getpid()}h{number}"
        self._far_end = f"vp{os.getpid()}g{number}"
        network = (198 << 24) + (18 << 16) + 4 * (os.getpid() % 512 * _NETWORKS_EACH + number)
        self._our_address = _dotted(network + 1)
        self.address = _dotted(network + 2)
        """Where the host is reached."""

    def __enter__(self) -> Self:
        try:
            self._create()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def inside(self, *argv: str | Path) -> list[str]:
        """The command that runs `argv` on the host, as the same process."""
        return [_program("nsenter"), f"--net=/run/netns/{self.name}", "--", *map(str, argv)]

    def unplug(self) -> None:
        """Packets vanish in both directions. Nobody is told, on either side."""
        _ip("-netns", self.name, "link", "set", self._far_end, "down")

    def plug_in(self) -> None:
        """Undo `unplug`. TCP sends again what was lost when its next try is due."""
        _ip("-netns", self.name, "link", "set", self._far_end, "up")

    def lose(self, percent: float) -> None:
        """Lose so many of the packets in each direction. Raises NoNamespace where the kernel has no netem."""
        loss = ("root", "netem", "loss", f"{percent:g}%")
        _run("tc", "qdisc", "replace", "dev", self._cable, *loss)
        _run("tc", "-netns", self.name, "qdisc", "replace", "dev", self._far_end, *loss)

    def reboot(self) -> None:
        """The same address on a host that has just started: no process of the old one can be reached, and what
        comes for its connections is answered by a reset."""
        self._remove()
        self._create()

    def _create(self) -> None:
        _ip("netns", "add", self.name)
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", self._far_end, "netns", self.name)
        _ip("address", "add", f"{self._our_address}/30", "dev", self._cable)
        _ip("link", "set", self._cable, "up")
        _ip("-netns", self.name, "address", "add", f"{self.address}/30", "dev", self._far_end)
        _ip("-netns", self.name, "link", "set", "lo", "up")
        _ip("-netns", self.name, "link", "set", self._far_end, "up")

    def _remove(self) -> None:
        """The cable first: a namespace lives on for as long as one of its connections does."""
        for argv in (("link", "delete", self._cable), ("netns", "delete", self.name)):
            with contextlib.suppress(NoNamespace):  # it was not made
                _ip(*argv)


class NamespacedSshd(Sshd):
    """sshd on such a host. It listens on the host's address alone, so that it can only be reached over the cable."""

    def __init__(self, namespace: Namespace, directory: Path, *, config: Sequence[str] = ()) -> None:
        super().__init__(directory, config=config)
        self._namespace = namespace

    def _launch(self, port: int) -> Process:
        config = self._directory / "sshd_config"
        config.write_text("\n".join(self._lines(port)) + "\n")
        argv = self._namespace.inside(sshd_binary(), "-D", "-e", "-f", config)
        where = (self._namespace.address, port)
        return Process(argv, log=self._log_path, ready=lambda: greets(*where)).start()

    def _lines(self, port: int) -> list[str]:
        others = [line for line in super()._lines(port) if not line.startswith("ListenAddress ")]
        return [*others, f"ListenAddress {self._namespace.address}"]


def greets(host: str, port: int) -> bool:
    """Does an SSH server say hello there?"""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1) as sock:
        return sock.recv(4) == b"SSH-"
    return False


@functools.cache
def _program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join((*_SBIN, os.environ.get("PATH", ""))))
    if found is None:
        raise NoNamespace(f"{name} is not installed; on Debian: apt-get install iproute2 util-linux")
    return found


def _ip(*argv: str) -> None:
    _run("ip", *argv)


def _run(name: str, *argv: str) -> None:
    """Raises NoNamespace with what the program says."""
    try:
        done = subprocess.run(
            [_program(name), *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise NoNamespace(f"`{name} {' '.join(argv)}` did not end within {_LIMIT_S} s") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split()) or f"exit status {done.returncode}"
        raise NoNamespace(f"`{name} {' '.join(argv)}`: {said}")


def _dotted(address: int) -> str:
    return ".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0))

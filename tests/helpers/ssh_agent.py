"""ssh-agents for tests: OpenSSH's own, and a socket that says what a test wants it to say."""

import contextlib
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.helpers.processes import Process

FAILURE = b"\0\0\0\x01\x05"


def output(*argv: str, agent: "SshAgent | None" = None) -> str:
    """What a program prints, with this agent in its environment. Raises CalledProcessError when it fails."""
    env = {**os.environ, "SSH_AUTH_SOCK": "" if agent is None else str(agent.socket)}
    ran = subprocess.run(
        argv, env=env, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30
    )
    return ran.stdout


class SshAgent:
    """A real ssh-agent on a socket of its own, used as a context manager. There is nobody it could ask."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "agent"
        self._log = directory / "agent.log"
        self._process: Process | None = None

    def start(self) -> Self:
        """Start it, without any keys; again after a `stop`."""
        with contextlib.suppress(FileNotFoundError):
            self.socket.unlink()
        argv = ["ssh-agent", "-D", "-a", str(self.socket)]
        env = {"PATH": os.environ.get("PATH", os.defpath)}
        self._process = Process(argv, log=self._log, ready=self._answers, env=env).start()
        return self

    def stop(self) -> None:
        """End it and forget its keys. May be called twice."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()

    def add(self, *paths: Path, options: Sequence[str] = ()) -> None:
        """Hand it private keys."""
        output("ssh-add", "-q", *options, *map(str, paths), agent=self)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(self.socket))
            return True
        return False


class SaidAgent:
    """A socket that answers each request of a connection with the next of these bytes; `None` says nothing.

    Used as a context manager; at its end every connection must have been closed by the other side.
    """

    def __init__(self, path: Path, *answers: bytes | None) -> None:
        self.socket = path
        self.requests: list[bytes] = []
        self._answers = answers
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._listener.bind(str(self.socket))
        self._listener.listen()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                peer = self._listener.accept()[0]
            except OSError:
                return
            with peer:
                self._talk(peer)

    def _talk(self, peer: socket.socket) -> None:
        for answer in self._answers:
            if not (request := peer.recv(65_536)):
                return
            self.requests.append(request)
            if answer is None:
                peer.recv(1)
                return
            peer.sendall(answer)


def string(data: bytes) -> bytes:
    """A string in SSH's binary form."""
    return struct.pack(">I", len(data)) + data


def identities(*keys: tuple[bytes, bytes]) -> bytes:
    """An agent's answer that lists keys: pairs of the public half and a comment."""
    listing = b"".join(string(blob) + string(comment) for blob, comment in keys)
    return string(bytes([12]) + struct.pack(">I", len(keys)) + listing)

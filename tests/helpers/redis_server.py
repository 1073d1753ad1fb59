"""A real Redis for tests: on a socket file of its own, nothing on disk, frozen, killed and filled at will."""

import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.helpers.processes import Process, ProcessFailed


class RedisServer:
    """redis-server, used as a context manager. `config` are further options, such as `--maxmemory 2mb`."""

    def __init__(self, directory: Path, *, config: Sequence[str] = ()) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            raise ProcessFailed("redis-server is not installed; on Debian: apt-get install redis-server")
        # Not in `directory`: the path of a socket file has at most 107 characters.
        self._place = tempfile.TemporaryDirectory(prefix="redis-")
        self.socket_path = Path(self._place.name) / "s"
        self._process = Process(
            [
                *(binary, "--port", "0", "--unixsocket", self.socket_path, "--dir", self._place.name),
                *("--save", "", "--appendonly", "no", "--daemonize", "no"),
                *config,
            ],
            log=directory / "redis.log",
            ready=self._answers,
        )

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        self._process.start()

    def kill(self) -> None:
        """SIGKILL. What was kept is lost; `start` makes an empty one at the same address."""
        self._process.kill()

    def freeze(self) -> None:
        """It takes connections and answers nothing."""
        self._process.freeze()

    def thaw(self) -> None:
        self._process.thaw()

    def command(self, *words: str | bytes) -> bytes:
        """The raw reply to one command, up to 1 MiB of it."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.socket_path))
            parts = [word.encode() if isinstance(word, str) else word for word in words]
            head = b"*%d\r\n" % len(parts)
            connection.sendall(head + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))
            return connection.recv(1 << 20)

    def names(self) -> list[str]:
        """The names of all keys."""
        reply = self.command("KEYS", "*").decode("utf-8", "replace").split("\r\n")
        return sorted(line for line in reply if line and line[0] not in "*$")

    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith(b"+PONG")
        except OSError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._place.cleanup()

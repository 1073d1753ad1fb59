"""One remote command over asyncssh: collects what it prints, within bounds, and kills it when told to.

SSH can carry a signal, but OpenSSH's sshd refuses it when root is logged in ("session signalling requires
privilege separation", session.c; seen with 9.2), and on vast.ai everybody is root. What sshd always does
is to close the command's standard input when its channel or its connection ends. So a watcher beside
the command waits for that and kills the process group; nothing runs on after we have gone.
"""

import asyncio
import re
import shlex
from typing import Any

import asyncssh

from vastproxy.services.tunnels.base import CommandResult

#: sshd makes the shell the leader of a process group of its own, so $$ names that group; the watcher is
#: ended first when the command ends by itself. The command's own input is empty.
_GUARD = """exec 3<&0
( read -r _ <&3; kill -9 -$$ ) >/dev/null 2>&1 &
watcher=$!
( eval "$1" ) </dev/null 3<&-
status=$?
kill "$watcher" 2>/dev/null
exit $status"""


#: `true`, or one call of timeout(1), which leaves the process group, so that a guard could not reach it.
_SELF_BOUNDED = re.compile(r"true|timeout\s[^;&|<>()`$\n]*")


def guarded(command: str) -> str:
    """A command line that runs `command` with sh, whatever the login shell is, and dies with its channel.

    What ends in its own time stays as it is: `true`, and a single `timeout …`.
    """
    if _SELF_BOUNDED.fullmatch(command):
        return command
    return f"exec sh -c {shlex.quote(_GUARD)} sh {shlex.quote(command)}"


class CommandSession(asyncssh.SSHClientSession[bytes]):
    """A command from its start to its end."""

    def __init__(self, command: str, loop: asyncio.AbstractEventLoop, *, max_output_bytes: int) -> None:
        #: What to ask sshd to run.
        self.line = guarded(command)
        self._is_guarded = self.line != command
        #: Done when nothing more will come, whatever the reason.
        self.finished: asyncio.Future[None] = loop.create_future()
        self._room = max_output_bytes
        self._output: dict[int | None, bytearray] = {
            None: bytearray(),
            asyncssh.EXTENDED_DATA_STDERR: bytearray(),
        }
        self._exit_status: int | None = None
        self._chan: asyncssh.SSHClientChannel[bytes] | None = None
        self.was_killed = False

    @property
    def is_complete(self) -> bool:
        """The command's exit status has come, or we ended it ourselves."""
        return self._exit_status is not None or self.was_killed

    def result(self) -> CommandResult:
        """What has come so far."""
        stdout, stderr = (bytes(part).decode("utf-8", "replace") for part in self._output.values())
        return CommandResult(self._exit_status, stdout, stderr)

    def kill(self) -> None:
        """End the channel, and with it the command, now or as soon as it has started. Waits for nothing."""
        self.was_killed = True
        if self._chan is not None:
            self._chan.abort()
            self._finish()

    def connection_made(self, chan: Any) -> None:
        self._chan = chan

    def session_started(self) -> None:
        if self.was_killed:
            self.kill()
        elif not self._is_guarded and self._chan is not None:
            self._chan.write_eof()  # nobody will type; a guard, however, takes this for our end

    def data_received(self, data: bytes, datatype: int | None) -> None:
        kept = data[: self._room]
        self._room -= len(kept)
        self._output[datatype] += kept
        if len(kept) < len(data):
            self.kill()

    def exit_status_received(self, status: int) -> None:
        if not self.was_killed:  # that of a command whose pipe we broke says nothing of it
            self._exit_status = status

    def eof_received(self) -> bool:
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish()

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)

"""One remote command over paramiko: collects what it prints, within bounds, and is killed by closing its channel.

The command line is guarded as with the other engine (see `command`): what runs inside dies with its channel.
"""

import contextlib
import threading
from typing import Any

from vastproxy.services.tunnels.base import CommandResult
from vastproxy.services.tunnels.command import guarded
from vastproxy.services.tunnels.paramiko_relay import CHUNK_BYTES
from vastproxy.services.tunnels.paramiko_transport import ENDED, NO_LIMIT_S, SshTransport
from vastproxy.services.tunnels.tunnel import FIRST_COMMAND


def run_first_command(transport: SshTransport) -> None:
    """Ask for a command, so that sshd sets TCP_NODELAY; wait until it has started, not for its end. Blocking.

    A server that forbids commands still forwards. Raises what ended the connection, if something did.
    """
    chan = None
    try:
        chan = transport.open_session(timeout=NO_LIMIT_S)
        chan.exec_command(FIRST_COMMAND)
    except ENDED as exc:
        if transport.has_ended_with(exc):
            raise transport.end_reason or ConnectionResetError("Connection lost") from exc
    finally:
        if chan is not None:
            chan.close()


class RemoteCommand:
    """A command from its start to its end. `run` blocks and is called once, `kill` from any other thread."""

    def __init__(self, command: str, *, max_output_bytes: int) -> None:
        #: What sshd is asked to run.
        self.line = guarded(command)
        self._is_guarded = self.line != command
        self._room = max_output_bytes
        self._lock = threading.Lock()
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._exit_status: int | None = None
        self._chan: Any = None
        self.was_killed = False
        #: The connection ended before the command did.
        self.was_lost = False

    def result(self) -> CommandResult:
        """What has come so far. Of a command that was killed, no exit status counts."""
        status = None if self.was_killed else self._exit_status
        return CommandResult(
            status,
            bytes(self._stdout).decode("utf-8", "replace"),
            bytes(self._stderr).decode("utf-8", "replace"),
        )

    def run(self, transport: SshTransport) -> None:
        """Run it to its end. Blocking. Raises paramiko.SSHException when the server does not start it."""
        try:
            self._chan = chan = transport.open_session(timeout=NO_LIMIT_S)
            if self.was_killed:  # before it began
                return
            chan.exec_command(self.line)
            if not self._is_guarded:
                chan.shutdown_write()  # nobody will type; a guard, however, takes this for our end
            errors = threading.Thread(target=self._read_stderr, name="ssh command stderr", daemon=True)
            errors.start()
            self._read(chan.recv, self._stdout)
            errors.join()
            status = chan.recv_exit_status()
            self._exit_status = None if status < 0 else status
        except ENDED as exc:
            if not self.was_killed and not transport.has_ended_with(exc):
                raise
        finally:
            self._close()
            if self._exit_status is None and not self.was_killed:
                self.was_lost = not transport.is_active() or (
                    self._chan is not None and transport.has_ended()
                )

    def kill(self) -> None:
        """End the channel, and with it the command, now or as soon as it has started. Blocking."""
        self.was_killed = True
        self._close()

    def _read_stderr(self) -> None:
        self._read(self._chan.recv_stderr, self._stderr)

    def _read(self, recv: Any, into: bytearray) -> None:
        """Keep what comes until its end or until both outputs together are too much."""
        with contextlib.suppress(*ENDED):
            while data := recv(CHUNK_BYTES):
                with self._lock:
                    kept = data[: self._room]
                    self._room -= len(kept)
                    into += kept
                if len(kept) < len(data):
                    self.kill()

    def _close(self) -> None:
        chan = self._chan
        if chan is not None:
            with contextlib.suppress(*ENDED):
                chan.close()
            chan.event.set()  # paramiko waits for the start of a command without limit

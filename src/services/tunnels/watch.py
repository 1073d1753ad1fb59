"""Long-lived remote commands: what they print is handed over line by line, for as long as both sides last.

A tunnel that can do this is `Watchable`. It is apart from `Tunnel`, as an engine may be without it: a watched
command holds one of the sessions that sshd allows on a connection (MaxSessions, 10 by default in OpenSSH).
"""

from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

#: What a command may print within one silence unless it is given more.
MAX_OUTPUT_BYTES: Final = 256 * 1024

#: Takes a line without its end. False: end the command.
OnLine = Callable[[str], bool]


@runtime_checkable
class Watchable(Protocol):
    """A tunnel over which a command can be watched."""

    async def watch(
        self, command: str, on_line: OnLine, *, silence_s: float, max_output_bytes: int = MAX_OUTPUT_BYTES
    ) -> int | None:
        """Run a command, hand each line of its standard output to `on_line`, and return its exit status.

        Lines are decoded as UTF-8 with replacement; a last line without an end is dropped. The command is killed
        when `on_line` returns False, when it prints more than about `max_output_bytes` within `silence_s`, both
        outputs together, and when a line is longer than that: the status is None then.

        Raises TimeoutError when nothing has come for `silence_s`, counted from the call too (it is killed then),
        TunnelLost when the SSH connection ends, ChannelRefused when no more commands are started, and what
        `on_line` raises. On cancellation the command is killed.
        """
        ...


class Allowance:
    """How much may come: `most` at once, and as much again in each `per_s` seconds. Pure."""

    def __init__(self, most: float, per_s: float, now: float) -> None:
        self._most = most
        self._rate = most / per_s
        self._left = most
        self._at = now

    def take(self, size: int, now: float) -> bool:
        """May so much more come now?"""
        self._left = min(self._most, self._left + max(now - self._at, 0.0) * self._rate) - size
        self._at = now
        return self._left >= 0

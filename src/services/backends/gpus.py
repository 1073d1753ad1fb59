"""Reading the GPUs of an instance: which program, how its runs are framed, what a run's output means. Pure.

Three ways of reading again and again were weighed:

- `nvidia-smi -l N`: one start, but no status for a single reading, silence where one hangs, no mark where one
  ends and, since it writes to a pipe, whatever buffering its version has; old ones also print Xid events between;
- one command per reading: each costs us a channel from opening to closing, about two health checks of CPU, and
  the instance a login shell;
- a loop of short runs inside one command: one packet per reading, an end mark and a status for each, each bounded
  by itself, nothing left in a buffer as every run ends.

The third is taken where a session can be held, the second otherwise. A held session counts against sshd's
MaxSessions (10 by default); forwarded streams do not.
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from vastproxy.services.backends.gpu_amd import AMD_LIMIT_S, amd_command, read_amd
from vastproxy.services.backends.gpu_csv import read_nvidia
from vastproxy.services.backends.gpu_query import QUERY_LIMIT_S, GpuQuery, next_query
from vastproxy.services.backends.gpu_reading import Failure, Gpu, GpuReading
from vastproxy.services.backends.gpu_signs import Sign, Trouble, changes, signs

__all__ = [
    "Failure",
    "Frame",
    "Frames",
    "Gpu",
    "GpuProgram",
    "GpuQuery",
    "GpuReading",
    "Sign",
    "Trouble",
    "changes",
    "signs",
]

#: What a reading may print: 64 GPUs with every field are 20 KiB of nvidia-smi's, but eight GPUs 200 KiB of amd-smi's.
NVIDIA_OUTPUT_BYTES: Final = 64 * 1024
AMD_OUTPUT_BYTES: Final = 1024 * 1024

_WHOLE_QUERY: Final = GpuQuery()
_STATUS_MARK: Final = "@vastproxy-status "
_END_MARK: Final = "@vastproxy-end"
_STATUS_LINE = re.compile(rf"{_STATUS_MARK}(\d{{1,3}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class GpuProgram:
    """How to read the GPUs of one instance, and what has been learnt about its driver."""

    amd: bool = False
    query: GpuQuery = _WHOLE_QUERY
    #: After so long `command` has ended by itself, unless the process cannot be killed.
    limit_s: float = QUERY_LIMIT_S

    @classmethod
    def of(cls, gpu_arch: str | None, *, limit_s: float = QUERY_LIMIT_S) -> "GpuProgram":
        """For an instance of this kind, in vast.ai's words: "nvidia", "amd" or nothing (vast.ai API, 2026-08)."""
        amd = gpu_arch == "amd"
        return cls(amd=amd, limit_s=max(limit_s, AMD_LIMIT_S) if amd else limit_s)

    @property
    def command(self) -> str:
        """Reads once, and ends in its own time."""
        return amd_command(self.limit_s) if self.amd else self.query.command(self.limit_s)

    @property
    def silence(self) -> str:
        """What it means that nothing comes, for a person."""
        return f"{'AMD tools do' if self.amd else 'nvidia-smi does'} not answer; a GPU may hang"

    @property
    def max_output_bytes(self) -> int:
        """More than any reading prints."""
        return AMD_OUTPUT_BYTES if self.amd else NVIDIA_OUTPUT_BYTES

    def loop(self, interval_s: float) -> str:
        """Reads now and then again `interval_s` after each end, until it is ended. `Frames` reads its output."""
        # printf writes at once what it is given, so a reading is one packet; $(…) drops NULs and final newlines.
        return (
            "while :; do "
            f"out=$({{ {self.command} 2>/dev/null; printf '\\n{_STATUS_MARK}%s\\n' $?; }} "
            f"| head -c {self.max_output_bytes}); "
            f"printf '%s\\n%s\\n' \"$out\" {_END_MARK}; "
            f"sleep {interval_s:g}; done"
        )

    def read(self, stdout: str, exit_status: int | None) -> GpuReading:
        """What a run of `command` told. Never raises."""
        if self.amd:
            return read_amd(stdout, exit_status)
        return read_nvidia(stdout, exit_status, self.query.fields)

    def after(self, reading: GpuReading, stdout: str) -> "GpuProgram":
        """How to read next time: the same, unless the driver has refused the query and a smaller one is left."""
        if self.amd or reading.failure is not Failure.UNKNOWN_FIELD:
            return self
        query = next_query(self.query, stdout)
        return self if query is None else replace(self, query=query)


@dataclass(frozen=True, slots=True)
class Frame:
    """What one run inside `GpuProgram.loop` left. No status: its output was cut, maybe within the last line."""

    stdout: str
    exit_status: int | None

    @property
    def is_mute(self) -> bool:
        """Neither output nor a status: the shell cannot run the loop, as when `head` is missing."""
        return self.exit_status is None and not self.stdout.strip()


class Frames:
    """Puts the lines of `GpuProgram.loop` together. What comes before a run, such as a banner, is part of it."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lines: list[str] = []
        self._size = 0

    def feed(self, line: str) -> Frame | None:
        """One more line, without its end. Returns the run that it ends.

        Of a run that is longer than it may be only what follows is kept, since the rows come last.
        """
        line = line.rstrip("\r")
        if line != _END_MARK:
            self._size += len(line) + 1
            if self._size > self._max_bytes:
                self._lines, self._size = [], 0
            else:
                self._lines.append(line)
            return None
        lines, status = self._lines, None
        if lines and (found := _STATUS_LINE.fullmatch(lines[-1])):
            lines, status = lines[:-1], int(found[1])
        self._lines, self._size = [], 0
        text = "\n".join(lines)
        return Frame(text if status is None else f"{text}\n", status)

"""How to go on reading the GPUs of an instance after what has just happened. Pure."""

import random
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from vastproxy.services.backends.gpus import Failure, GpuProgram, GpuReading
from vastproxy.services.tunnels.backoff import Backoff

#: After a way of reading has ended by itself or was refused.
_AGAIN: Final = Backoff(5.0, 300.0)
#: After a hang. Each try may leave a process behind that cannot be killed.
_AFTER_HANG: Final = Backoff(60.0, 900.0)
#: Programs are seldom installed while an instance runs.
NOT_INSTALLED_REST_S: Final = 600.0


class End(Enum):
    """How a way of reading came to its end."""

    #: It was one single run, or we stopped it because of what the last reading said.
    READ = auto()
    #: It ended by itself, or printed too much.
    ENDED = auto()
    #: Nothing came for too long.
    SILENT = auto()
    #: sshd gives us no session.
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Course:
    """What has been learnt about reading the GPUs of one instance, and how that goes."""

    program: GpuProgram
    #: Hold a session in which the program is run again and again? Otherwise one command per reading.
    holds: bool = True
    #: Hangs, and ends other than `End.READ`, since the last good reading.
    troubles: int = 0
    #: The last reading of this way, or None.
    last: GpuReading | None = None
    #: Was that a refusal, after which the program asks for less?
    refused: bool = False

    def begun(self) -> "Course":
        """At the beginning of a way of reading."""
        return replace(self, last=None, refused=False)

    def with_reading(self, reading: GpuReading, stdout: str) -> "Course":
        """After one more reading, made from this output."""
        program = self.program.after(reading, stdout)
        return replace(
            self,
            program=program,
            troubles=self.troubles + 1 if reading.failure is Failure.HUNG else 0,
            last=reading,
            refused=program != self.program,
        )

    @property
    def goes_on(self) -> bool:
        """May a held session go on after the last reading?"""
        return not self.refused and (self.last is None or self.last.failure not in _RESTS)

    def after(self, end: End, interval_s: float, rng: random.Random) -> tuple["Course", float]:
        """The course to take after an end, and the seconds to wait before."""
        if end is End.READ:
            return self, self._pause_s(interval_s, rng)
        now = replace(self, troubles=self.troubles + 1)
        if end is End.SILENT:
            return now, max(interval_s, _AFTER_HANG.next(now.troubles, rng))
        if self.holds and (end is End.REFUSED or self.last is None):
            # A shell that does not run our loop, or no session to spare: read once, which needs less of both.
            return replace(now, holds=False), 0.0 if end is End.ENDED else interval_s
        return now, max(interval_s, _AGAIN.next(now.troubles, rng))

    def _pause_s(self, interval_s: float, rng: random.Random) -> float:
        if self.refused:
            return 0.0
        match self.last:
            case GpuReading(failure=Failure.HUNG):
                return max(interval_s, _AFTER_HANG.next(self.troubles, rng))
            case GpuReading(failure=Failure.NOT_INSTALLED):
                return max(interval_s, NOT_INSTALLED_REST_S)
            case _:
                return interval_s


_RESTS: Final = (Failure.HUNG, Failure.NOT_INSTALLED)

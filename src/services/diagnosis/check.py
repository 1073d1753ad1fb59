"""One thing that was looked at: what was found, whether that is good, and what to do about it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How it is. The values are words for machines, and what people read where there is no colour."""

    OK = "ok"
    WARN = "warn"
    """It works, or will soon, and could be better."""
    FAIL = "fail"
    SKIP = "skip"
    """There was nothing to look at, or what it rests on is missing; that has a line of its own."""


@dataclass(frozen=True, slots=True)
class Check:
    """`id` names the kind of check for programs, `title` for people. `instance` is whom it is about; None: the account
    or this machine. `fix` is what to do, never empty for WARN and FAIL. `exits`: the exit code that a FAIL leads to.
    """

    id: str
    title: str
    verdict: Verdict
    detail: str
    fix: str = ""
    instance: int | None = None
    exits: int = 1

    def to_json(self) -> dict[str, Any]:
        """For programs; `fix` is null where there is nothing to do."""
        return {
            "id": self.id,
            "instance": self.instance,
            "title": self.title,
            "verdict": self.verdict.value,
            "detail": self.detail,
            "fix": self.fix or None,
        }


def exit_code(checks: Iterable[Check]) -> int:
    """0 if nothing failed, else the most telling code of what did: the highest."""
    return max((one.exits for one in checks if one.verdict is Verdict.FAIL), default=0)


def summary(checks: Iterable[Check]) -> Verdict:
    """All of them in one word."""
    found = {one.verdict for one in checks}
    if Verdict.FAIL in found:
        return Verdict.FAIL
    return Verdict.WARN if Verdict.WARN in found else Verdict.OK

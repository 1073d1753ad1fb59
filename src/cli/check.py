"""`vastproxy status --check`: one line and an exit code, as Nagios and its relatives want them.

The line is `STATE - text | performance data`, the codes are 0 OK, 1 WARNING, 2 CRITICAL and 3 UNKNOWN
(Monitoring Plugins Development Guidelines). Only /healthz is asked, which needs no key.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from vastproxy.cli.asking import READ_TIMEOUT_S, NoProxyThere, asking
from vastproxy.cli.render import clean
from vastproxy.settings import SettingsError


class Grade(IntEnum):
    """How it is; the number is the exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


_GRADES = {"healthy": Grade.OK, "degraded": Grade.WARNING, "unhealthy": Grade.CRITICAL}


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of a check. `str` of it is the line to print."""

    grade: Grade
    text: str
    data: str = ""

    def __str__(self) -> str:
        text = clean(self.text).replace("|", "/")  # the bar begins the performance data
        return f"VASTPROXY {self.grade.name} - {text}" + (f" | {self.data}" if self.data else "")


def check(url_of: Callable[[], str], *, read_timeout_s: float = READ_TIMEOUT_S) -> Checked:
    """Ask the proxy at `url_of()` how it is. Never raises an error of ours: whatever is wrong is a grade.

    Where nothing answers as a proxy does it is CRITICAL; where the settings do not say whom to ask, UNKNOWN.
    """
    try:
        with asking(url_of(), key=None, read_timeout_s=read_timeout_s) as proxy:
            return judge(proxy.object(proxy.get("/healthz")))
    except NoProxyThere as error:
        return Checked(Grade.CRITICAL, str(error))
    except SettingsError as error:
        return Checked(Grade.UNKNOWN, str(error))


def judge(health: Mapping[str, Any]) -> Checked:
    """What the answer of /healthz comes to."""
    status = health.get("status")
    grade = _GRADES.get(status, Grade.UNKNOWN) if isinstance(status, str) else Grade.UNKNOWN
    if grade is Grade.UNKNOWN:
        return Checked(grade, "the proxy does not say how it is; is it another version?")
    backends, api = _mapping(health.get("backends")), _mapping(health.get("vast_api"))
    serving, total = _number(backends.get("healthy")), _number(backends.get("total"))
    reason = health.get("reason")
    text = (
        reason
        if isinstance(reason, str) and reason
        else f"{serving or 0:g} of {total or 0:g} backends can serve"
    )
    data = _data(serving, total, _number(api.get("latency_ms")), health.get("uptime_s"))
    return Checked(grade, text, " ".join(filter(None, (data, _money(_mapping(health.get("account")))))))


def _data(serving: float | None, total: float | None, latency_ms: float | None, uptime: object) -> str:
    """Performance data: `name=value[unit];warn;crit;min;max`, of what is known."""
    told = []
    if serving is not None and total is not None:
        # Alarming below all of them, and below one.
        told.append(f"healthy={serving:g};{total:g}:;1:;0;{total:g}")
        told.append(f"backends={total:g};;;0")
    if latency_ms is not None:
        told.append(f"vast_api={latency_ms / 1000:g}s;;;0")
    if (uptime_s := _number(uptime)) is not None:
        told.append(f"uptime={uptime_s:.0f}s;;;0")
    return " ".join(told)


def _money(account: Mapping[str, Any]) -> str:
    """The credit and for how long it lasts, where the proxy tells it to those who bring no key."""
    known = (
        ("credit", _number(account.get("credit_dollars"))),
        ("hours_left", _number(account.get("hours_left"))),
    )
    return " ".join(f"{name}={value:g};;;0" for name, value in known if value is not None)


def _number(value: object) -> float | None:
    """It, if it is a number that can be written; JSON as Python reads it has others too."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

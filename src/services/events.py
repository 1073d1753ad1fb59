"""What can happen, and what the log says of it. Who hears of it: `happenings.py`."""

import logging
from dataclasses import dataclass
from typing import Any

from vastproxy.services.backends.state import Event, State
from vastproxy.vastai.handlers.events import Decision

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BackendAdded:
    instance_id: int


@dataclass(frozen=True, slots=True)
class BackendRemoved:
    instance_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class StateChanged:
    instance_id: int
    before: State
    after: State
    cause: Event
    detail: str


@dataclass(frozen=True, slots=True)
class PathChanged:
    """The way to an instance: "direct", "relay", or None while there is none."""

    instance_id: int
    path: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class EngineEjected:
    """Requests that an engine was given went wrong one after the other: it gets none for `for_s` seconds, unless nobody
    else is left. `detail`: how the last one ended."""

    instance_id: int
    port: int
    for_s: float
    detail: str


@dataclass(frozen=True, slots=True)
class EngineReturned:
    """One that was ejected, or did not accept our token, has answered."""

    instance_id: int
    port: int


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """An engine does not accept the token that we send it. Somebody has to change something."""

    instance_id: int
    port: int
    detail: str


@dataclass(frozen=True, slots=True)
class LabelWritten:
    instance_id: int
    label: str


@dataclass(frozen=True, slots=True)
class AccountRead:
    """A list was read whose numbers differ from the one before."""

    instances: int
    backends: int


@dataclass(frozen=True, slots=True)
class PollFailed:
    error: str


@dataclass(frozen=True, slots=True)
class Heard:
    """Somebody told us that something has happened on the account."""

    decision: Decision


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """A request has ended with a failure that is not its client's: nobody could serve it, or an engine failed.

    `instance_id`: who was asked last, None where nobody was. `status`: what the client was answered; 200 where the
    answer broke off. `code`: as clients are told, or `http_500` and the like where an engine's own error was passed on.
    `more`: failures with the same code since the last one that was told of: of many only some are told.
    """

    instance_id: int | None
    request_id: str
    model: str | None
    status: int
    code: str
    detail: str
    more: int = 0


@dataclass(frozen=True, slots=True)
class RequestsCancelled:
    """Somebody has ended requests by order: so many, of one instance or (None) of all. `by`: who, for people."""

    instance_id: int | None
    count: int
    by: str


@dataclass(frozen=True, slots=True)
class CreditLow:
    """The account's credit lasts for so many seconds more; without it vast.ai stops all instances."""

    lasts_s: float
    dollars_per_hour: float


@dataclass(frozen=True, slots=True)
class MachineKnown:
    """An instance is on a machine that was rented before. `hours`: that it was seen running, over all times; `score`:
    how far it can be relied on, 0 to 1, None while too little is known."""

    instance_id: int
    machine_id: int
    hours: float
    score: float | None


FleetEvent = (
    BackendAdded
    | BackendRemoved
    | StateChanged
    | PathChanged
    | EngineEjected
    | EngineReturned
    | TokenRefused
    | LabelWritten
    | AccountRead
    | PollFailed
    | Heard
    | RequestFailed
    | RequestsCancelled
    | CreditLow
    | MachineKnown
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log: `template` and `args` are logging's."""

    level: int
    template: str
    args: tuple[Any, ...]

    @property
    def text(self) -> str:
        """The whole line."""
        return self.template % self.args


def line_of(event: FleetEvent) -> Line:
    """What the log says of an event."""
    match event:
        case BackendAdded(instance_id):
            return Line(logging.INFO, "[backend=%d] added", (instance_id,))
        case BackendRemoved(instance_id, reason):
            return Line(logging.INFO, "[backend=%d] removed: %s", (instance_id, reason))
        case StateChanged(instance_id, before, after, _, detail):
            level = logging.WARNING if after is State.UNHEALTHY else logging.INFO
            return Line(level, "[backend=%d] %s → %s%s", (instance_id, before, after, _because(detail)))
        case PathChanged(instance_id, path, detail):
            args = (instance_id, path or "none", _because(detail))
            return Line(logging.INFO, "[backend=%d] path: %s%s", args)
        case EngineEjected() | EngineReturned() | TokenRefused():
            return _line_of_engine(event)
        case LabelWritten(instance_id, label):
            text = f"set to {label!r}" if label else "cleared"
            return Line(logging.INFO, "[backend=%d] label %s", (instance_id, text))
        case AccountRead(instances, backends):
            text = "the account has %d instances, %d of them are ours to serve"
            return Line(logging.INFO, text, (instances, backends))
        case PollFailed(error):
            text = "the instance list could not be read, keeping the last good one: %s"
            return Line(logging.WARNING, text, (error,))
        case Heard(decision):
            return Line(logging.DEBUG, "heard: %s", (decision.reason,))
        case RequestFailed():
            return _line_of_request(event)
        case RequestsCancelled(instance_id, count, by):
            where = "" if instance_id is None else f" on instance {instance_id}"
            return Line(logging.INFO, "%d requests%s were cancelled %s", (count, where, by))
        case CreditLow(lasts_s, dollars_per_hour):
            text = (
                "the account's credit lasts %.1f h more at $%.3f per hour; then vast.ai stops all instances: add some "
                "at https://cloud.vast.ai/billing/"
            )
            return Line(logging.WARNING, text, (lasts_s / 3600, dollars_per_hour))
        case MachineKnown(instance_id, machine_id, hours, score):
            text = "[backend=%d] you rented this machine before (machine %d, %g h%s)"
            known = "" if score is None else f", score {score:g}"
            return Line(logging.INFO, text, (instance_id, machine_id, hours, known))


def _line_of_engine(event: EngineEjected | EngineReturned | TokenRefused) -> Line:
    id, port = event.instance_id, event.port
    match event:
        case EngineEjected(for_s=for_s, detail=detail):
            text = "[backend=%d] the engine on port %d gets no requests for %g s%s"
            return Line(logging.WARNING, text, (id, port, for_s, _because(detail)))
        case EngineReturned():
            return Line(logging.INFO, "[backend=%d] the engine on port %d answers again", (id, port))
        case TokenRefused(detail=detail):
            text = (
                "[backend=%d] the engine on port %d does not accept our token (%s): it wants another key than the "
                "instance's own; set engines.api_key. It gets no requests meanwhile, unless nobody else is left"
            )
            return Line(logging.ERROR, text, (id, port, detail))


def _line_of_request(event: RequestFailed) -> Line:
    where = "" if event.instance_id is None else f"[backend={event.instance_id}] "
    more = f" (and {event.more} more like it)" if event.more else ""
    args = (where, event.request_id, event.status, event.code, _because(event.detail), more)
    return Line(logging.DEBUG, "%srequest %s failed with %d %s%s%s", args)


def log_event(event: FleetEvent) -> None:
    """A listener that writes each event as one log line."""
    line = line_of(event)
    logger.log(line.level, line.template, *line.args)


def _because(detail: str) -> str:
    return f": {detail}" if detail else ""

"""What happened, for whoever listens: the log, the jobs, dashboards.

Listeners are called at once, in the order in which they subscribed, on the event loop; they must be quick and must not
block. One that raises is logged and stays subscribed: an onlooker cannot stop the fleet.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

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
)
Listener = Callable[[FleetEvent], None]


class EventBus:
    """Hands each event to each listener."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` for every event from now on. Returns what ends that; calling it twice is harmless."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def publish(self, event: FleetEvent) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                logger.exception("a listener failed on %r", event)


def log_event(event: FleetEvent) -> None:
    """A listener that writes each event as one log line."""
    match event:
        case BackendAdded(instance_id):
            logger.info("[backend=%d] added", instance_id)
        case BackendRemoved(instance_id, reason):
            logger.info("[backend=%d] removed: %s", instance_id, reason)
        case StateChanged(instance_id, before, after, _, detail):
            level = logging.WARNING if after is State.UNHEALTHY else logging.INFO
            logger.log(level, "[backend=%d] %s → %s%s", instance_id, before, after, _because(detail))
        case PathChanged(instance_id, path, detail):
            logger.info("[backend=%d] path: %s%s", instance_id, path or "none", _because(detail))
        case EngineEjected(instance_id, port, for_s, detail):
            text = "[backend=%d] the engine on port %d gets no requests for %g s%s"
            logger.warning(text, instance_id, port, for_s, _because(detail))
        case EngineReturned(instance_id, port):
            logger.info("[backend=%d] the engine on port %d answers again", instance_id, port)
        case TokenRefused(instance_id, port, detail):
            logger.error(
                "[backend=%d] the engine on port %d does not accept our token (%s): it wants another key than the "
                "instance's own; set engines.api_key. It gets no requests meanwhile, unless nobody else is left",
                instance_id,
                port,
                detail,
            )
        case LabelWritten(instance_id, label):
            logger.info("[backend=%d] label %s", instance_id, f"set to {label!r}" if label else "cleared")
        case AccountRead(instances, backends):
            logger.info("the account has %d instances, %d of them are ours to serve", instances, backends)
        case PollFailed(error):
            logger.warning("the instance list could not be read, keeping the last good one: %s", error)


def _because(detail: str) -> str:
    return f": {detail}" if detail else ""

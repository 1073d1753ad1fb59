"""The stages of one request on its way through the proxy, as a transition table."""

from enum import IntEnum, auto


class Stage(IntEnum):  # whose hash is a number's: it is looked up several times a request
    GATHER = auto()
    """The body is collected, for a moment, so that head and body leave together."""
    CONNECT = auto()
    """A backend is leased, a connection to it is being opened."""
    WAIT = auto()
    """The request is written, or being written; the answer's head has not come."""
    RELAY = auto()
    """The client has the head of an answer; its body follows."""
    PIPE = auto()
    """Client and engine speak another protocol through us."""
    OVER = auto()
    """Answered, given up or left."""


class Step(IntEnum):
    DISPATCH = auto()
    """Choose a backend: the first time, or after an attempt that may be made again."""
    CONNECTED = auto()
    ANSWERED = auto()
    SWITCHED = auto()
    END = auto()


_NEXT: dict[tuple[Stage, Step], Stage] = {
    (Stage.GATHER, Step.DISPATCH): Stage.CONNECT,
    (Stage.GATHER, Step.END): Stage.OVER,
    (Stage.CONNECT, Step.DISPATCH): Stage.CONNECT,
    (Stage.CONNECT, Step.CONNECTED): Stage.WAIT,
    (Stage.CONNECT, Step.END): Stage.OVER,
    (Stage.WAIT, Step.DISPATCH): Stage.CONNECT,
    (Stage.WAIT, Step.ANSWERED): Stage.RELAY,
    (Stage.WAIT, Step.SWITCHED): Stage.PIPE,
    (Stage.WAIT, Step.END): Stage.OVER,
    (Stage.RELAY, Step.END): Stage.OVER,
    (Stage.PIPE, Step.END): Stage.OVER,
}


def advance(stage: Stage, step: Step) -> Stage:
    """The stage after `step`. Raises KeyError for a step that is impossible there: a bug, never a peer's doing."""
    return _NEXT[stage, step]

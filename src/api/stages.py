"""The stages of one request on its way through the proxy, as a transition table."""

from enum import IntEnum, auto


class Stage(IntEnum):  # whose hash is a number's: it is looked up several times a request
    GATHER = auto()
    """The body is collected, for a moment, so that head and body leave together."""
    QUEUE = auto()
    """No backend has a place for it; it waits for one."""
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
    HOLD = auto()
    """Wait for a place: before the first attempt, or before one more."""
    DISPATCH = auto()
    """Choose a backend: the first time, or after an attempt that may be made again."""
    CONNECTED = auto()
    ANSWERED = auto()
    SWITCHED = auto()
    END = auto()


#: Stages and steps by their names alone: in CPython 3.11 looking one up in its class costs five times as much.
GATHER, QUEUE, CONNECT, WAIT, RELAY, PIPE, OVER = Stage
HOLD, DISPATCH, CONNECTED, ANSWERED, SWITCHED, END = Step

#: The stage after a step. One that is not here is impossible: a bug, never a peer's doing.
NEXT: dict[tuple[Stage, Step], Stage] = {
    (GATHER, DISPATCH): CONNECT,
    (GATHER, HOLD): QUEUE,
    (GATHER, END): OVER,
    (QUEUE, DISPATCH): CONNECT,
    (QUEUE, END): OVER,
    (CONNECT, DISPATCH): CONNECT,
    (CONNECT, HOLD): QUEUE,
    (CONNECT, CONNECTED): WAIT,
    (CONNECT, END): OVER,
    (WAIT, DISPATCH): CONNECT,
    (WAIT, HOLD): QUEUE,
    (WAIT, ANSWERED): RELAY,
    (WAIT, SWITCHED): PIPE,
    (WAIT, END): OVER,
    (RELAY, END): OVER,
    (PIPE, END): OVER,
}

"""Where one client's connection stands."""

from enum import Enum, auto


class Place(Enum):
    HEAD = auto()
    """Reading a request's head, or waiting for one."""
    BODY = auto()
    """A handler is at work, the request's body still comes."""
    ANSWER = auto()
    """The whole request has come: a handler is at work, or has been and its answer makes room for the next one."""
    PIPE = auto()
    """Another protocol: bytes in both directions."""
    LINGER = auto()
    """Answered, closing: what still comes is thrown away, so that the answer is not lost to a reset."""
    CLOSED = auto()
    """Nothing more."""


#: The places by their names alone: in CPython 3.11 looking one up in its class costs five times as much.
HEAD, BODY, ANSWER, PIPE, LINGER, CLOSED = Place

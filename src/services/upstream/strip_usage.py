"""Takes the event with the number of tokens out of a stream for a client that did not ask for it. Pure.

That is the one event that `services.routing.ask_usage` brings about: an object whose `choices` are empty and whose
`usage` is an object. Every other byte of the stream stays, in its order. Of an event that has come in part nothing is
passed on: half an event is of no use to anybody.
"""

import json
import re
from typing import Final

#: In the event, however it is spaced, and in hardly another one. Searching 200 bytes for it takes 0.1 µs; a word with a
#: more frequent last letter would take twice as long.
MARK: Final = b"prompt_tokens"
#: An event of which more has come is none of ours.
MAX_HELD_BYTES: Final = 16 * 1024

_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_DATA: Final = re.compile(rb"(?:\A|(?<=[\r\n]))data:[ ]?([^\r\n]*)")


class UsageStrip:
    """For one stream of events."""

    __slots__ = ("_held", "_passing", "dropped", "is_between", "taken")

    def __init__(self) -> None:
        self._held = b""
        self._passing = False
        self.is_between = True
        """May an event begin with the next byte?"""
        self.taken = b""
        """The event that was taken out, once it was."""
        self.dropped = 0
        """Bytes that were fed and not passed on."""

    def feed(self, data: bytes) -> bytes:
        """The next piece: what of the stream is to be passed on now."""
        if self.is_between and MARK not in data and data[-2:] == b"\n\n":  # as nearly always
            return data
        held, came = self._held, len(data)
        data = held + data
        passed: list[bytes] = []
        at = 0
        # An end that came in two pieces begins in the first one.
        for found in _END.finditer(data, max(len(held) - 3, 0)):
            passed.append(self._event(data[at : found.end()]))
            at = found.end()
        rest = data[at:]
        if self._passing or len(rest) > MAX_HELD_BYTES:
            self._passing = True
            behind = len(rest.rstrip(b"\r\n"))  # the beginning of its end, perhaps
            passed.append(rest[:behind])
            rest = rest[behind:]
        self._held = rest
        self.is_between = not rest and not self._passing
        kept = b"".join(passed)
        self.dropped += came - len(kept)
        return kept

    def end(self) -> bytes:
        """The stream has ended: what is left of it."""
        rest = self._held
        if not rest:
            return rest
        self._held, self.is_between = b"", True
        kept = self._event(rest)
        self.dropped -= len(kept)
        return kept

    def _event(self, event: bytes) -> bytes:
        """A whole event, or nothing in its stead."""
        if self._passing:
            self._passing = False
        elif MARK in event and is_usage(event):
            self.taken = event
            return b""
        return event


def is_usage(event: bytes) -> bool:
    """Is it the event that tells of the tokens and of nothing else?"""
    try:
        told = json.loads(b"\n".join(_DATA.findall(event)))
    except (ValueError, RecursionError):
        return False
    return isinstance(told, dict) and told.get("choices") == [] and isinstance(told.get("usage"), dict)

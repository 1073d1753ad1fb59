"""Where the body of a message ends (RFC 9112 §6): decided once, from the fields, in one way or not at all."""

from collections.abc import Sequence
from typing import NamedTuple

from vastproxy.services.http1.grammar import GrammarError

#: Longest Content-Length that is read as a number: 15 digits are a petabyte.
_MAX_LENGTH_DIGITS = 15


class CodingError(GrammarError):
    """A transfer coding that is not spoken here."""


class Framing(NamedTuple):
    """`length` in bytes; None with `chunked`, or when only the end of the connection ends the body."""

    chunked: bool
    length: int | None


EMPTY = Framing(chunked=False, length=0)
CHUNKED = Framing(chunked=True, length=None)
UNTIL_CLOSE = Framing(chunked=False, length=None)


def request_framing(minor: int, lengths: Sequence[bytes], codings: Sequence[bytes]) -> Framing:
    """`lengths` and `codings`: the values of all Content-Length and Transfer-Encoding fields.

    Raises GrammarError; CodingError for codings other than chunked.
    """
    if codings:
        if lengths:
            raise GrammarError("has both Transfer-Encoding and Content-Length")
        if minor == 0:
            raise GrammarError("has Transfer-Encoding in HTTP/1.0")
        _require_chunked(codings)
        return CHUNKED
    return Framing(chunked=False, length=_content_length(lengths)) if lengths else EMPTY


def response_framing(
    minor: int, status: int, lengths: Sequence[bytes], codings: Sequence[bytes], *, head_only: bool
) -> Framing:
    """As `request_framing`; `head_only` for the answer to HEAD, whose length is no body's."""
    if codings:
        if lengths:
            raise GrammarError("has both Transfer-Encoding and Content-Length")
        if minor == 0:
            raise GrammarError("has Transfer-Encoding in HTTP/1.0")
        _require_chunked(codings)
    length = _content_length(lengths) if lengths else None
    if head_only or status in (204, 304):
        return EMPTY
    if codings:
        return CHUNKED
    return UNTIL_CLOSE if length is None else Framing(chunked=False, length=length)


def _require_chunked(codings: Sequence[bytes]) -> None:
    if len(codings) != 1 or codings[0].lower() != b"chunked":
        raise CodingError("has a transfer coding other than chunked")


def _content_length(values: Sequence[bytes]) -> int:
    value = values[0]
    if len(values) != 1 or not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        raise GrammarError("has an ambiguous Content-Length")
    return int(value)


_USUAL = {word: frozenset({word.lower()}) for word in (b"keep-alive", b"Keep-Alive", b"close", b"Upgrade")}


def tokens(values: Sequence[bytes]) -> frozenset[bytes]:
    """The members of a comma separated list, over all fields of the name, in lower case."""
    if len(values) == 1 and (usual := _USUAL.get(values[0])) is not None:
        return usual
    return frozenset(token.strip(b" \t").lower() for value in values for token in value.split(b",")) - {b""}


def keeps_alive(minor: int, connection: frozenset[bytes]) -> bool:
    """Does the sender of a message with these `Connection` tokens expect the connection to go on?"""
    if minor == 0:
        return b"keep-alive" in connection and b"close" not in connection
    return b"close" not in connection

"""Whose trace a request belongs to, and the ids of its spans. Pure.

W3C Trace Context, level 1 and 2: `traceparent` is `version-trace id-parent id-flags`. What is malformed counts as not
sent. The ids of our spans follow from the request itself and a secret of this process, so that nothing has to be kept
while it runs, and nobody can guess or repeat them by choosing a request id.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vastproxy.services.dispatch.claim import Claim, Lease
from vastproxy.services.http1.grammar import Header

#: Stay between the client and us where tracing is on.
TRACE_HEADERS = frozenset({b"traceparent", b"tracestate"})
#: More than this of `tracestate` is not sent on, as the recommendation allows.
MAX_STATE_BYTES = 512

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
#: One member of `tracestate`: its key and a value of printable ASCII.
_MEMBER = re.compile(
    rb"([a-z][_0-9a-z*/-]{0,255}|[a-z0-9][_0-9a-z*/-]{0,240}@[a-z][_0-9a-z*/-]{0,13})"
    rb"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MAX_MEMBERS = 32
_SAMPLED = 1
_SPAN_IDS = 1 << 64


class Parent(NamedTuple):
    """What the client said of its own span. `state`: its `tracestate`, one line."""

    trace_id: int
    span_id: int
    sampled: bool
    state: bytes = b""


class Trace(NamedTuple):
    """One request: its trace, its own span, and whether it is told of. `parent`: the client's, if it named one."""

    trace_id: int
    span_id: int
    sampled: bool
    parent: Parent | None


def parent_of(headers: Iterable[Header]) -> Parent | None:
    """The client's span, if the headers of its request name one, names in lower case."""
    sent = [header for header in headers if header[0] in TRACE_HEADERS]
    parents = [value for name, value in sent if name == b"traceparent"]
    if len(parents) != 1:
        return None
    found = _PARENT.fullmatch(parents[0])
    if found is None or found[1] == b"ff" or (found[1] == b"00" and found[5] is not None):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    if not (trace_id and span_id):
        return None
    state = _state([value for name, value in sent if name == b"tracestate"])
    return Parent(trace_id, span_id, bool(int(found[4], 16) & _SAMPLED), state)


def _state(values: Sequence[bytes]) -> bytes:
    """One line of them all, or nothing if they are not all well-formed: half a state would be another one."""
    members = [text for value in values for each in value.split(b",") if (text := each.strip(b" \t"))]
    found = [_MEMBER.fullmatch(text) for text in members]
    keys = {each[1] for each in found if each is not None}
    if len(keys) != len(members) or len(members) > _MAX_MEMBERS:
        return b""
    state = b",".join(members)
    return state if len(state) <= MAX_STATE_BYTES else b""


def trace_of(claim: Claim, parent: Parent | None, *, secret: bytes, sample_ratio: float) -> Trace:
    """The same for the same request each time. Without a parent, so many of 1 are sampled, told by the trace's id."""
    story = b"%b\0%a" % (claim.request_id, claim.began_at)
    digest = hashlib.blake2b(story, digest_size=24, key=secret).digest()
    span_id = int.from_bytes(digest[16:]) or 1
    if parent is not None:
        return Trace(parent.trace_id, span_id, parent.sampled, parent)
    trace_id = int.from_bytes(digest[:16]) or 1
    return Trace(trace_id, span_id, trace_id % _SPAN_IDS < sample_ratio * _SPAN_IDS, None)


def attempt_id(trace: Trace, lease: Lease) -> int:
    """The id of the span of this attempt."""
    story = b"%d\0%d\0%a" % (trace.span_id, lease.engine.key, lease.at)
    return int.from_bytes(hashlib.blake2b(story, digest_size=8).digest()) or 1


def lines_for(trace: Trace, span_id: int) -> bytes:
    """Header lines by which an engine continues the trace below this span, each with its CRLF."""
    line = b"traceparent: 00-%032x-%016x-%02x\r\n" % (
        trace.trace_id,
        span_id,
        _SAMPLED if trace.sampled else 0,
    )
    if trace.parent is not None and trace.parent.state:
        line += b"tracestate: %b\r\n" % trace.parent.state
    return line

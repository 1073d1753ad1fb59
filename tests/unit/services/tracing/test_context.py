"""Whose trace a request belongs to, and the ids of its spans."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.dispatch.claim import Claim
from vastproxy.services.http1.headers import headers_of
from vastproxy.services.tracing.context import MAX_STATE_BYTES, Parent, lines_for, parent_of, trace_of

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
GOOD = b"00-%b-%b-01" % (TRACE, SPAN)
SECRET = b"a secret"
ids = st.integers(1, (1 << 128) - 1)
spans = st.integers(1, (1 << 64) - 1)


def headers(*parents: bytes, states: tuple[bytes, ...] = ()) -> list[tuple[bytes, bytes]]:
    own = [(b"accept", b"*/*"), *((b"traceparent", each) for each in parents)]
    return own + [(b"tracestate", each) for each in states]


def test_a_parent_is_read() -> None:
    assert parent_of(headers(GOOD)) == Parent(int(TRACE, 16), int(SPAN, 16), True)


def test_a_later_version_may_say_more() -> None:
    assert parent_of(headers(b"01-%b-%b-00-more" % (TRACE, SPAN))) == Parent(
        int(TRACE, 16), int(SPAN, 16), False
    )


@pytest.mark.parametrize(
    "parent",
    [
        b"",
        b"nonsense",
        GOOD.upper(),
        GOOD + b"-more",
        b"ff" + GOOD[2:],
        b"00-%b-%b-01" % (b"0" * 32, SPAN),
        b"00-%b-%b-01" % (TRACE, b"0" * 16),
        GOOD[:-1],
        GOOD + b" ",
        GOOD + b"\xff",
    ],
)
def test_what_is_malformed_was_not_sent(parent: bytes) -> None:
    assert parent_of(headers(parent)) is None


def test_of_two_parents_neither_counts() -> None:
    assert parent_of(headers(GOOD, GOOD)) is None


def test_without_a_parent_a_state_means_nothing() -> None:
    assert parent_of(headers(states=(b"a=1",))) is None


def test_states_of_several_lines_are_one() -> None:
    found = parent_of(headers(GOOD, states=(b"a=1", b"b=2")))
    assert found is not None
    assert found.state == b"a=1,b=2"


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"a",
        b"a=",
        b"A=1",
        b"a=\xff",
        b"a=1,a=2",
        b"a=1,=2",
        b"a=" + b"x" * 257,
        b",".join(b"k%d=1" % number for number in range(33)),
        b",".join(b"k%d=%b" % (number, b"x" * 100) for number in range(MAX_STATE_BYTES // 100 + 1)),
    ],
)
def test_a_state_that_is_none_is_left_out(state: bytes) -> None:
    found = parent_of(headers(GOOD, states=(state,)))
    assert found is not None
    assert found.state == b""


@given(parent=st.binary(max_size=80) | st.text("0123456789abcdef-", max_size=70).map(str.encode))
def test_whatever_is_sent_is_read_or_not(parent: bytes) -> None:
    found = parent_of(headers(parent))
    assert found is None or (found.trace_id and found.span_id)


@given(trace_id=ids, span_id=spans, sampled=st.booleans(), state=st.sampled_from([b"", b"a=1,b=2"]))
def test_what_an_engine_is_told_reads_as_it_was_meant(
    trace_id: int, span_id: int, sampled: bool, state: bytes
) -> None:
    parent = Parent(trace_id, 7, sampled, state)
    trace = trace_of(Claim(1.0, b"r"), parent, secret=SECRET, sample_ratio=1.0)
    told = headers_of(lines_for(trace, span_id))
    assert parent_of(told) == Parent(trace_id, span_id, sampled, state)


def test_the_same_request_has_the_same_ids_and_no_other_has() -> None:
    """Also where clients choose one request id for all."""

    def ids_of(began_at: float, name: bytes, secret: bytes = SECRET) -> tuple[int, int]:
        trace = trace_of(Claim(began_at, name), None, secret=secret, sample_ratio=1.0)
        return trace.trace_id, trace.span_id

    assert ids_of(1.5, b"a") == ids_of(1.5, b"a")
    others = {ids_of(1.5, b"a"), ids_of(1.500000001, b"a"), ids_of(1.5, b"b"), ids_of(1.5, b"a", b"another")}
    assert len({trace for trace, _ in others}) == len({span for _, span in others}) == 4


def test_so_many_are_sampled_as_are_wanted() -> None:
    for ratio, least, most in ((0.0, 0, 0), (0.25, 200, 300), (1.0, 1000, 1000)):
        found = [
            trace_of(Claim(float(number), b"r"), None, secret=SECRET, sample_ratio=ratio).sampled
            for number in range(1000)
        ]
        assert least <= sum(found) <= most


def test_a_client_that_samples_decides() -> None:
    for sampled in (True, False):
        parent = Parent(5, 6, sampled)
        assert trace_of(Claim(1.0, b"r"), parent, secret=SECRET, sample_ratio=0.5).sampled is sampled

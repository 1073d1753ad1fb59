"""The event with the usage is taken out of a stream, and every other byte stays, however the stream is cut."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.upstream.strip_usage import MAX_HELD_BYTES, UsageStrip, is_usage

USAGE = (
    b'data: {"id":"c","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":14,'
    b'"total_tokens":17,"completion_tokens":3}}\n\n'
)
SPACED = b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}\n\n'
CRLF = b'data:{"choices":[],"usage":{"prompt_tokens":2}}\r\n\r\n'
FIELDS = b': a comment\nid: 7\ndata: {"choices":[],\ndata: "usage":{"prompt_tokens":2}}\n\n'
TAKEN = [USAGE, SPACED, CRLF, FIELDS]

TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"Gr\xc3\xbc\xc3\x9f"}}],"usage":null}\n\n'
DONE = b"data: [DONE]\n\n"
KEPT = [
    TOKEN,
    DONE,
    b": keep-alive\n\n",
    b"\n\n",
    b'data: {"choices":[{"delta":{"content":"\\"choices\\":[],\\"usage\\":{\\"prompt_tokens\\":1}"}}]}\n\n',
    b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}\r\n\r\n',
    b'data: {"choices":[],"usage":null,"prompt_tokens":1}\n\n',
    b'data: {"choices":[],"prompt_filter_results":[]}\n\n',
    b'event: error\ndata: {"error":{"message":"prompt_tokens\\""}}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens"\n\n',
    b'data: ["choices","prompt_tokens"]\r\r',
]
events = st.lists(st.sampled_from(TAKEN + KEPT), max_size=8)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(stream) + 1) for place in places})
    return [stream[start:end] for start, end in zip([0, *ends], [*ends, len(stream)], strict=True)]


def stripped(pieces: list[bytes]) -> bytes:
    strip = UsageStrip()
    return b"".join(strip.feed(piece) for piece in pieces) + strip.end()


@given(events, st.lists(st.integers(0, 3000), max_size=12))
def test_only_that_event_is_taken_out(stream: list[bytes], places: list[int]) -> None:
    wanted = b"".join(event for event in stream if event not in TAKEN)
    assert stripped(cut(b"".join(stream), places)) == wanted


@given(st.lists(st.sampled_from([*KEPT, b"\r", b"\n", b"data: ", b"x" * 50]), max_size=12), st.data())
def test_how_a_stream_is_cut_makes_no_difference(parts: list[bytes], data: st.DataObject) -> None:
    """Also of one that is no stream of events at all; and without a usage nothing is missing."""
    stream = b"".join(parts)
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=10))
    assert stripped(cut(stream, places)) == stream


def test_whole_events_are_passed_on_at_once() -> None:
    strip = UsageStrip()
    assert strip.feed(TOKEN) == TOKEN
    assert strip.is_between
    assert strip.feed(TOKEN + USAGE + DONE) == TOKEN + DONE
    assert strip.taken == USAGE
    assert strip.is_between


def test_half_an_event_waits_for_the_rest() -> None:
    strip = UsageStrip()
    assert strip.feed(TOKEN + USAGE[:9]) == TOKEN
    assert not strip.is_between
    assert strip.feed(USAGE[9:]) == b""
    assert strip.feed(DONE[:-1]) == b""
    assert strip.feed(DONE[-1:]) == DONE
    assert strip.end() == b""


def test_what_is_left_at_the_end_is_passed_on() -> None:
    strip = UsageStrip()
    assert strip.feed(b"data: half") == b""
    assert strip.end() == b"data: half"
    assert strip.is_between


def test_a_usage_without_the_blank_line_behind_it_is_taken_out_at_the_end() -> None:
    strip = UsageStrip()
    assert strip.feed(USAGE.rstrip()) == b""
    assert strip.end() == b""
    assert strip.taken == USAGE.rstrip()


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
@pytest.mark.parametrize("places", [[], [0], [1], [2], [3], [1, 2, 3]])
def test_a_long_event_is_not_held_and_the_next_one_is_found(end: bytes, places: list[int]) -> None:
    strip = UsageStrip()
    long = b"data: " + b"x" * MAX_HELD_BYTES
    assert strip.feed(long) == long
    assert not strip.is_between
    rest = end + USAGE + DONE
    assert b"".join(map(strip.feed, cut(rest, places))) == end + DONE
    assert strip.is_between


@pytest.mark.parametrize(
    "name", ["openai_stream_with_usage.txt", "openai_stream_no_usage_crlf.txt", "openai_stream_truncated.txt"]
)
def test_recorded_streams(name: str) -> None:
    """The one event is missing where there is one; the rest is the same byte for byte."""
    stream = (Path(__file__).parents[3] / "fixtures/engines" / name).read_bytes()
    wanted = (
        b"".join(event + b"\n\n" for event in stream.split(b"\n\n")[:-1] if b'"choices":[],' not in event)
        + stream.split(b"\n\n")[-1]
    )
    assert stripped([stream[at : at + 7] for at in range(0, len(stream), 7)]) == wanted


def test_what_is_the_event_and_what_is_not() -> None:
    assert all(map(is_usage, TAKEN))
    assert not any(map(is_usage, KEPT))
    deep = b"data: " + b"[" * 100_000
    assert not is_usage(deep)
    assert not is_usage(b"data: " + json.dumps([1]).encode())

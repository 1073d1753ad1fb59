"""A body asks for the usage of its stream with as few changes as possible, and only if its client has not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.routing.ask_usage import ask_usage

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
keys = st.text(max_size=6) | st.sampled_from(["stream", "messages", "stream_options", "model", "n"])
spaces = st.sampled_from(["", " ", "\n", "\t \r\n"])


def applied(body: bytes) -> bytes | None:
    edit = ask_usage(body)
    return None if edit is None else edit.apply(body)


@given(
    st.dictionaries(keys, plain, max_size=5),
    st.sampled_from([None, (",", ":"), (", ", ": ")]),
    st.booleans(),
    spaces,
    spaces,
)
def test_everything_else_stays(
    wanted: dict[str, Any], separators: tuple[str, str] | None, ascii: bool, before: str, behind: str
) -> None:
    """What an engine reads is what the client wrote, but for the one option; and it has that, or is not touched."""
    wanted = {**wanted, "stream": True}
    body = f"{before}{json.dumps(wanted, ensure_ascii=ascii, separators=separators)}{behind}".encode()
    changed = applied(body)
    own = wanted.get("stream_options")
    if changed is None:
        assert own is not None
        assert not isinstance(own, dict) or own.get("include_usage") or own.get("continuous_usage_stats")
        return
    read = json.loads(changed)
    assert read.pop("stream_options") == {**(own or {}), "include_usage": True}
    wanted.pop("stream_options", None)
    assert read == wanted


def test_nothing_but_the_option_is_put_in() -> None:
    body = b'  {"stream" : true,\n "messages":[]}\n'
    assert applied(body) == b'  {"stream_options":{"include_usage":true},"stream" : true,\n "messages":[]}\n'


@pytest.mark.parametrize(
    "options",
    [
        b'{"include_usage":true}',
        b'{"include_usage": true, "continuous_usage_stats": true}',
        b'{"include_usage":false,"continuous_usage_stats":true}',
        b"7",
        b'"no options"',
        b"[]",
    ],
)
def test_who_asks_himself_or_says_something_else_is_left_alone(options: bytes) -> None:
    assert ask_usage(b'{"stream":true,"stream_options":%b}' % options) is None


def test_a_no_becomes_a_yes() -> None:
    """The event is taken out again, so that who said no sees none."""
    body = b'{"stream_options": {"include_usage": false, "x": 1}, "stream": true}'
    assert applied(body) == b'{"stream_options": {"include_usage":true,"x":1}, "stream": true}'


def test_the_last_of_two_counts() -> None:
    body = b'{"stream_options":{"include_usage":true},"stream_options":null,"stream":true}'
    changed = applied(body)
    assert changed is not None
    assert json.loads(changed)["stream_options"] == {"include_usage": True}


def test_a_key_in_disguise_is_recognised() -> None:
    body = rb'{"stream\u005foptions":{"include_usage":true},"stream":true}'
    assert ask_usage(body) is None


def test_words_of_the_prompt_are_no_option() -> None:
    body = json.dumps({"messages": [{"content": 'set "stream_options" to {}'}], "stream": True}).encode()
    changed = applied(body)
    assert changed is not None
    assert changed.startswith(b'{"stream_options":{"include_usage":true},"messages"')


def test_who_wants_timings_is_left_alone() -> None:
    """llama.cpp would put them into the event that is taken out."""
    body = b'{"stream":true,"timings_per_token":true}'
    assert ask_usage(body, spare_timings=True) is None
    assert ask_usage(body) is not None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'x{"stream":true}',
        b'{"stream_options":{',
        b'{"stream_options"',
        b"\xff\xfe{\x00",
    ],
)
def test_what_is_no_object_is_left_alone(body: bytes) -> None:
    assert ask_usage(body) is None


def test_what_would_take_long_to_read_is_left_alone() -> None:
    long = b'{"stream":true,"messages":"%b","stream_options":null}' % (b"x" * (1 << 20))
    assert ask_usage(long) is None
    assert ask_usage(b'{"stream_options":{"a":"%b"},"stream":true}' % (b"x" * 5000)) is None


@given(st.binary(max_size=40) | st.text(alphabet='{}[]":, stream_option\\u05f', max_size=60).map(str.encode))
def test_nothing_makes_it_raise(body: bytes) -> None:
    ask_usage(body)

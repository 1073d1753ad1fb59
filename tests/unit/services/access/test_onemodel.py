"""A body that names one model, for every engine that may read it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.access.onemodel import names_one_model

LONG = b'"messages": [{"role": "user", "content": "' + b"x" * 40_000 + b'"}]'
FORM = [b"multipart/form-data; boundary=XX"]


def part(name: bytes, value: bytes) -> bytes:
    return b'--XX\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value + b"\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "m"}',
        b'{"model": "m", "messages": [{"content": "say \\"model\\": now"}]}',
        b'{"model": "m", "tools": [{"properties": {"model": {"type": "string"}}}]}',
        b'{"tools": [{"properties": {"model": {"type": "string"}}}], "model": "m"}',
        b"{" + LONG + b', "model": "m", "tools": {"model": 1}}',
        b'{"m\\u006fdel": "m"}',
    ],
)
def test_what_names_one_model(body: bytes) -> None:
    assert names_one_model(body, [])
    assert names_one_model(body, [b"application/json"])


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages": []}',
        b'{"model": "m", "model": "n"}',
        b'{"model": "m", "Model": "n"}',
        b'{"MODEL": "n", "model": "m"}',
        b'{"model": "m", "mod\\u0065l": "n"}',
        b'{"model": "m", "\\u004D\\u004Fd\\u0045\\u006C": "n"}',
        b'{"model": "m", ' + LONG + b', "mod\\u0065l": "n", ' + LONG + b"}",
        b'{"model": "m"} {"model": "n"}',
        b'{"model": "m", "model" \n: "n"',
        b"",
    ],
)
def test_what_could_be_read_in_two_ways(body: bytes) -> None:
    assert not names_one_model(body, [])


def test_a_form_with_one_model() -> None:
    body = part(b"model", b"m") + part(b'file"; filename="my model.wav', b"\0\1") + b"--XX--\r\n"
    assert names_one_model(body, FORM)
    assert names_one_model(body, [b'multipart/form-data; boundary="XX"'])
    browsers = b"----WebKitFormBoundary7MA4YWxkTrZu0gW"
    kinds = [b"multipart/form-data; boundary=" + browsers]
    assert names_one_model(body.replace(b"--XX", b"--" + browsers), kinds)


@pytest.mark.parametrize(
    "body",
    [
        part(b"model", b"m") + part(b"model", b"n") + b"--XX--",
        part(b"model", b"m") + part(b"Model", b"n") + b"--XX--",
        part(b"model", b"m") + part(b"mod\\el", b"n") + b"--XX--",
        part(b"model", b"m") + part(b"mod%65l", b"n") + b"--XX--",
        part(b"model", b"m") + part(b'x"; name="model', b"n") + b"--XX--",
        part(b"model", b"m") + part(b'x"; filename="f"; name="model', b"n") + b"--XX--",
        part(b"model", b"m") + part(b'x"; name*="model', b"n") + b"--XX--",
        part(b"model", b"m") + b'--XX\r\nContent-Disposition: form-data;\r\n name="model"\r\n\r\nn\r\n--XX--',
        part(b"model", b"m")
        + b'--XX\r\nContent-Disposition: form-data; name="x"\r\n'
        + b'Content-Disposition: form-data; name="model"\r\n\r\nn\r\n--XX--',
        b'{"model": "n"}\r\n' + part(b"model", b"m") + b"--XX--",
        part(b"model", b"m"),
        part(b"x", b"m") + b"--XX--",
        b"",
    ],
)
def test_a_form_that_could_be_read_in_two_ways(body: bytes) -> None:
    """The last but three is JSON for an engine that does not look at the Content-Type."""
    assert not names_one_model(body, FORM)


@pytest.mark.parametrize(
    "kinds",
    [
        [b"application/json", b"multipart/form-data; boundary=XX"],
        [b"application/x-www-form-urlencoded"],
        [b"multipart/form-data"],
        [b"multipart/form-data; boundary=XX; boundary=YY"],
        [b"multipart/form-data; boundary=XX; boundary*0=YY"],
        [b"multipart/form-data; boundary=XX; Boundary =YY"],
        [b"multipart/mixed; boundary=XX"],
    ],
)
def test_a_kind_of_body_that_could_be_read_in_two_ways(kinds: list[bytes]) -> None:
    """As form fields this JSON asks for another model."""
    assert not names_one_model(b'{"model": "m", "x": "&model=n&y="}', kinds)


KEYS = st.sampled_from(["model", "Model", "MODEL", "models", "m", "messages"]) | st.text(max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def spelled(key: str, escapes: list[bool]) -> str:
    """The key as JSON, some of its letters as escapes."""
    letters = [
        f"\\u{ord(letter):04X}" if escaped and ord(letter) < 0x10000 else json.dumps(letter)[1:-1]
        for letter, escaped in zip(key, escapes, strict=False)
    ]
    return f'"{"".join(letters)}{json.dumps(key[len(letters) :])[1:-1]}"'


@given(
    st.lists(st.tuples(KEYS, VALUES, st.lists(st.booleans(), max_size=5)), max_size=5),
    st.sampled_from(["", " ", "\r\n\t"]),
)
def test_it_is_as_if_all_had_been_parsed(members: list[tuple[str, Any, list[bool]]], blank: str) -> None:
    """Exactly those objects are accepted in which one member of the top level is a model, in whatever case."""
    body = (
        "{"
        + ",".join(
            f"{blank}{spelled(key, escapes)}{blank}:{blank}{json.dumps(value)}"
            for key, value, escapes in members
        )
        + "}"
    ).encode("utf-8", "surrogatepass")
    count = sum(key.lower() == "model" for key, _, _ in members)
    if count:
        assert names_one_model(body, []) == (count == 1)

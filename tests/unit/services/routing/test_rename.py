"""A body asks for another model, and says the same as before otherwise."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.services.routing.json_texts import loaded, objects
from vastproxy.services.routing.hints import Hints
from vastproxy.services.routing.peek import Peek, peek
from vastproxy.services.routing.rename import rename

HINTS = Hints(b"salt")


@given(objects(), st.text(max_size=8))
def test_only_the_model_changes(body: bytes, name: str) -> None:
    said = loaded(body)
    assert said is not None
    edit = rename(peek(body, HINTS), name, body)
    if edit is None:
        assert "model" in said
        assert said["model"] == name or not isinstance(said["model"], str | None)
        return
    changed = edit.apply(body)
    assert loaded(changed) == {**said, "model": name}
    assert len(changed) == len(body) + edit.growth


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (
            b'{"messages":[{"model":"a"}], "model" : "a" }',
            b'{"messages":[{"model":"a"}], "model" : "b/\\u00fc" }',
        ),
        (b' { "n":1}', b' {"model":"b/\\u00fc", "n":1}'),
        (b"{ }", b'{"model":"b/\\u00fc" }'),
        (b'{"model":null}', b'{"model":"b/\\u00fc"}'),
        (b'{"model":"a","model":"c"}', b'{"model":"a","model":"b/\\u00fc"}'),
    ],
)
def test_how_it_is_written(body: bytes, changed: bytes) -> None:
    edit = rename(peek(body, HINTS), "b/ü", body)
    assert edit is not None
    assert edit.apply(body) == changed


@pytest.mark.parametrize("body", [b'{"model":7}', b"no json", b'{"model":"b"}', b"[]"])
def test_what_is_left_alone(body: bytes) -> None:
    assert rename(peek(body, HINTS), "b", body) is None


def test_the_beginning_of_a_body_that_is_still_coming() -> None:
    """The rest follows as it is, and the announced length grows by what the beginning grew."""
    first, rest = b'{"model":"alias","messages":[', b'"' + b"x" * 100_000 + b'"]}'
    reading = Peek(HINTS)
    assert reading.feed(first)
    edit = rename(reading.asked, "the/real-model", first)
    assert edit is not None
    sent = edit.apply(first) + rest
    assert len(sent) == len(first + rest) + edit.growth
    assert json.loads(sent)["model"] == "the/real-model"


def test_a_field_of_a_form() -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nabc\r\n--x--\r\n'
    )
    edit = rename(peek(body, HINTS, b"multipart/form-data; boundary=x"), "ü", body)
    assert edit is not None
    assert edit.apply(body) == body.replace(b"whisper", "ü".encode())

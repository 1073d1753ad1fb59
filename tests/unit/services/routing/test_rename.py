"""A body asks for another model, and says the same as before otherwise."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.services.routing.json_texts import loaded, objects
from vastproxy.services.routing.rename import rename


@given(objects(), st.text(max_size=8))
def test_only_the_model_changes(body: bytes, name: str) -> None:
    said = loaded(body)
    assert said is not None
    edit = rename(body, name)
    if edit is None:
        assert not isinstance(said["model"], str | None)
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
    edit = rename(body, "b/ü")
    assert edit is not None
    assert edit.apply(body) == changed


@pytest.mark.parametrize("body", [b'{"model":7}', b"no json", b"[]", b""])
def test_what_is_left_alone(body: bytes) -> None:
    assert rename(body, "b") is None


def test_the_beginning_of_a_body_that_is_still_coming() -> None:
    """The rest follows as it is, and the announced length grows by what the beginning grew."""
    first, rest = b'{"model":"alias","messages":[', b'"' + b"x" * 100_000 + b'"]}'
    edit = rename(first, "the/real-model", complete=False)
    assert edit is not None
    sent = edit.apply(first) + rest
    assert len(sent) == len(first + rest) + edit.growth
    assert json.loads(sent)["model"] == "the/real-model"


def test_a_beginning_without_its_model_is_left_alone() -> None:
    assert rename(b'{"messages":["', "b", complete=False) is None
    assert rename(b'{"model":"al', "b", complete=False) is None


@pytest.mark.parametrize("padding", [20_000, 5_000_000])
def test_a_long_body(padding: int) -> None:
    body = json.dumps({"messages": ["x" * padding], "model": "a"}).encode()
    edit = rename(body, "b")
    assert edit is not None
    assert edit.apply(body) == body.replace(b'"a"', b'"b"')


def test_a_field_of_a_form() -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nabc\r\n--x--\r\n'
    )
    edit = rename(body, "ü", b"multipart/form-data; boundary=x")
    assert edit is not None
    assert edit.apply(body) == body.replace(b"whisper", "ü".encode())

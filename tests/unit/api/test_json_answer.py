"""JSON of texts that others have made up."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.api.json_answer import JsonAnswer, encoded

#: Half of a pair, which JSON can write and UTF-8 cannot.
TEXTS = st.text(alphabet=st.characters(), max_size=20) | st.just("a\ud800b")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_any_text_can_be_told(value: Any) -> None:
    json.loads(encoded(value))


def test_what_cannot_be_written_is_a_question_mark() -> None:
    assert encoded({"a": "x\ud800y\u00e9"}) == '{"a":"x?y\u00e9"}'.encode()
    assert JsonAnswer(["\udfff"]).body == b'["?"]'


def test_numbers_that_json_does_not_have_are_an_error() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encoded(float("nan"))

"""Values that leave the process come back as they were."""

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.packing import ROWS_IN_A_PIECE, pack, unpack

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.integers(0, 10**9), JSON | st.lists(JSON, min_size=20, max_size=30))
def test_a_value_and_its_number_come_back(number: int, value: object) -> None:
    assert unpack(pack(number, value)) == (number, value)


@pytest.mark.parametrize("count", [0, 1, ROWS_IN_A_PIECE, ROWS_IN_A_PIECE + 1, 10 * ROWS_IN_A_PIECE])
def test_no_piece_is_longer_than_the_longest(count: int) -> None:
    rows = [{"id": number, "text": "two\nlines\ud800"} for number in range(count)]
    packed = pack(7, rows)
    assert unpack(packed) == (7, rows)
    _, *lines = zlib.decompress(packed).split(b"\n")
    assert max((len(json.loads(line)) for line in lines), default=0) <= ROWS_IN_A_PIECE


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes"])
def test_what_is_no_json_is_not_packed(value: object) -> None:
    with pytest.raises(TypeError):
        pack(1, value)


@pytest.mark.parametrize(
    "text", [b"5", b"{}", b'{"n":1}', b'{"n":"x","rows":true}', b'{"n":1,"rows":true}\n{"a":1}']
)
def test_what_looks_nearly_like_it_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="not packed here"):
        unpack(zlib.compress(text))


@given(st.binary(max_size=200))
def test_anything_else_is_refused_in_a_way_that_is_expected(garbage: bytes) -> None:
    for packed in (garbage, zlib.compress(garbage)):
        with pytest.raises((ValueError, zlib.error)):
            unpack(packed)

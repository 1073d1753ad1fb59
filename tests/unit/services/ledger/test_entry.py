"""Tokens are those that the engine told; where it told none they are estimated and marked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.ledgers import make_entry
from vastproxy.services.ledger.entry import Entry, tokens_of


@pytest.mark.parametrize(
    ("entry", "tokens"),
    [
        (make_entry(), (10, 20, 0)),
        (make_entry(tokens=(None, None)), (100, 21, 121)),
        (make_entry(tokens=(None, None), received=401), (101, 21, 122)),
        (make_entry(tokens=(None, None), streamed=False), (100, 1000, 1100)),
        (make_entry(tokens=(10, None), streamed=False), (10, 1000, 1000)),
        (make_entry(tokens=(None, 20), operation="text_completion"), (100, 20, 100)),
        (make_entry(tokens=(10, None), operation="embeddings", streamed=False), (10, 0, 0)),
        (make_entry(tokens=(None, None), operation="embeddings", streamed=False), (100, 0, 100)),
        (make_entry(tokens=(None, None), operation="other"), (0, 0, 0)),
        (make_entry(tokens=(5, 6), operation="other"), (5, 6, 0)),
        (make_entry(tokens=(None, None), status=400, streamed=False), (0, 0, 0)),
        (make_entry(tokens=(None, None), status=502, error="backend_unreachable", ttft_s=None), (0, 0, 0)),
        (make_entry(tokens=(None, None), status=499), (100, 21, 121)),
        (make_entry(tokens=(None, None), status=499, ttft_s=None, pieces=0), (0, 0, 0)),
        (make_entry(tokens=(None, None), error="backend_interrupted"), (100, 21, 121)),
    ],
)
def test_tokens(entry: Entry, tokens: tuple[int, int, int]) -> None:
    assert tokens_of(entry) == tokens


counts = st.none() | st.integers(0, 10**8)


@given(
    st.builds(
        make_entry,
        operation=st.sampled_from(["chat", "text_completion", "embeddings", "other"]),
        status=st.sampled_from([0, 200, 400, 499, 500, 502]),
        tokens=st.tuples(counts, counts),
        pieces=st.integers(0, 10**6),
        streamed=st.booleans(),
        received=st.integers(0, 10**9),
        sent=st.integers(0, 10**9),
        ttft_s=st.none() | st.floats(0, 100),
    )
)
def test_what_was_told_counts_as_it_was_told(entry: Entry) -> None:
    """An estimate never takes the place of a count, and is never more than all tokens."""
    told_in, told_out = entry[6], entry[7]
    tokens_in, tokens_out, estimated = tokens_of(entry)
    if told_in is not None:
        assert tokens_in == told_in
    if told_out is not None:
        assert tokens_out == told_out
    assert 0 <= estimated <= tokens_in + tokens_out
    assert estimated == tokens_in + tokens_out - (told_in or 0) - (told_out or 0)

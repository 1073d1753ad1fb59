"""Where bodies end, as tables: every combination of fields gives one framing or a refusal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.http1.framing import (
    CHUNKED,
    EMPTY,
    UNTIL_CLOSE,
    CodingError,
    Framing,
    keeps_alive,
    request_framing,
    response_framing,
    tokens,
)
from vastproxy.services.http1.grammar import GrammarError


def length(value: int) -> Framing:
    return Framing(chunked=False, length=value)


@pytest.mark.parametrize(
    ("minor", "lengths", "codings", "expected"),
    [
        (1, [], [], EMPTY),
        (0, [], [], EMPTY),
        (1, [b"0"], [], length(0)),
        (1, [b"5"], [], length(5)),
        (0, [b"5"], [], length(5)),
        (1, [b"007"], [], length(7)),
        (1, [b"9" * 15], [], length(10**15 - 1)),
        (1, [], [b"chunked"], CHUNKED),
        (1, [], [b"Chunked"], CHUNKED),
        (1, [], [b"CHUNKED"], CHUNKED),
    ],
)
def test_framing_of_requests(
    minor: int, lengths: list[bytes], codings: list[bytes], expected: Framing
) -> None:
    assert request_framing(minor, lengths, codings) == expected


@pytest.mark.parametrize(
    ("minor", "status", "lengths", "codings", "expected"),
    [
        (1, 200, [], [], UNTIL_CLOSE),
        (0, 200, [], [], UNTIL_CLOSE),
        (1, 200, [b"0"], [], length(0)),
        (1, 200, [b"5"], [], length(5)),
        (1, 200, [], [b"chunked"], CHUNKED),
        (1, 404, [], [b"ChunkeD"], CHUNKED),
        (1, 204, [], [], EMPTY),
        (1, 304, [], [], EMPTY),
        (1, 204, [b"5"], [], EMPTY),
        (1, 304, [b"5"], [], EMPTY),
        (1, 304, [], [b"chunked"], EMPTY),
    ],
)
def test_framing_of_responses(
    minor: int, status: int, lengths: list[bytes], codings: list[bytes], expected: Framing
) -> None:
    assert response_framing(minor, status, lengths, codings, head_only=False) == expected
    assert response_framing(minor, status, lengths, codings, head_only=True) == EMPTY


REFUSED = [
    (1, [b"5"], [b"chunked"]),
    (1, [b"5", b"5"], []),
    (1, [b"5", b"6"], []),
    (1, [b""], []),
    (1, [b"5, 5"], []),
    (1, [b"5,6"], []),
    (1, [b"-5"], []),
    (1, [b"+5"], []),
    (1, [b"5 "], []),
    (1, [b" 5"], []),
    (1, [b"0x5"], []),
    (1, [b"5.0"], []),
    (1, [b"5_0"], []),
    (1, [b"1" * 16], []),
    (1, [b"\xb2"], []),
    (0, [], [b"chunked"]),
]
CODINGS = [
    [b"gzip"],
    [b"gzip, chunked"],
    [b"chunked, chunked"],
    [b"chunked", b"chunked"],
    [b"chunked", b"identity"],
    [b"identity"],
    [b"chunked;q=1"],
    [b" chunked"],
    [b"chunked "],
    [b"\x0bchunked"],
    [b"xchunked"],
    [b""],
]


@pytest.mark.parametrize(("minor", "lengths", "codings"), REFUSED)
@pytest.mark.parametrize("status", [200, 204, 304])
def test_no_ambiguous_length_is_believed(
    minor: int, lengths: list[bytes], codings: list[bytes], status: int
) -> None:
    """Not even where there is no body: who is behind us might read it."""
    with pytest.raises(GrammarError):
        request_framing(minor, lengths, codings)
    for head_only in (True, False):
        with pytest.raises(GrammarError):
            response_framing(minor, status, lengths, codings, head_only=head_only)


@pytest.mark.parametrize("codings", CODINGS)
def test_other_codings_have_an_error_of_their_own(codings: list[bytes]) -> None:
    with pytest.raises(CodingError):
        request_framing(1, [], codings)
    with pytest.raises(CodingError):
        response_framing(1, 200, [], codings, head_only=False)


@given(
    st.lists(st.binary(max_size=6), max_size=2), st.lists(st.sampled_from([b"chunked", b"gzip"]), max_size=2)
)
def test_a_request_has_at_most_one_framing(lengths: list[bytes], codings: list[bytes]) -> None:
    try:
        framing = request_framing(1, lengths, codings)
    except GrammarError:
        return
    assert framing.chunked == (codings == [b"chunked"] and not lengths)
    if not framing.chunked:
        assert not codings
        assert framing.length == (int(lengths[0]) if lengths else 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], set()),
        ([b""], set()),
        ([b" , ,"], set()),
        ([b"close"], {b"close"}),
        ([b"Keep-Alive, CLOSE"], {b"keep-alive", b"close"}),
        ([b"a,b", b"\tc ,d"], {b"a", b"b", b"c", b"d"}),
        ([b"a", b""], {b"a"}),
        ([b"a b"], {b"a b"}),
    ],
)
def test_members_of_a_list(values: list[bytes], expected: set[bytes]) -> None:
    assert tokens(values) == expected


@pytest.mark.parametrize(
    ("minor", "connection", "expected"),
    [
        (1, b"", True),
        (1, b"keep-alive", True),
        (1, b"close", False),
        (1, b"close, keep-alive", False),
        (1, b"upgrade", True),
        (1, b"closed", True),
        (0, b"", False),
        (0, b"keep-alive", True),
        (0, b"close, keep-alive", False),
        (0, b"upgrade", False),
    ],
)
def test_who_keeps_a_connection(minor: int, connection: bytes, expected: bool) -> None:
    assert keeps_alive(minor, tokens([connection])) is expected

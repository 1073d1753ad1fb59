"""The body on its way up: every attempt sends what the client sent, in one frame; what may be sent again is held."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.api.upload import REPLAY_LIMIT_BYTES, Upload
from vastproxy.services.backends.rids import RID_CHARS
from vastproxy.services.http1.chunked import ChunkedReader

CHAT = b"/v1/chat/completions"
PROMPT = b'{"model":"m","messages":[]}'


def unframed(length: int | None, data: bytes) -> bytes:
    """The body that an engine reads, which must end exactly where the bytes do."""
    if length is not None:
        assert len(data) == length
        return data
    reader = ChunkedReader()
    body = reader.feed(data)
    assert reader.done
    assert reader.rest == b""
    return body


def sent(upload: Upload, *, pieces: list[bytes], carrying: bytes | None = None) -> bytes:
    """Begin an attempt, then send these pieces; what the engine reads."""
    length, data = upload.begin(carrying)
    for number, piece in enumerate(pieces, start=1):
        upload.add(piece, complete=number == len(pieces), on_its_way=True)
        data += upload.more(piece)
    assert upload.sent
    return unframed(length, data)


PIECES = st.lists(st.binary(min_size=1, max_size=50), max_size=8)


@given(PIECES, PIECES, st.booleans())
def test_however_a_body_comes_it_leaves_as_it_was(
    before: list[bytes], after: list[bytes], announced: bool
) -> None:
    """Pieces that came before the attempt, pieces that follow; and once more, for another attempt."""
    body = b"".join(before + after)
    upload = Upload(len(body) if announced else None)
    for piece in before:
        upload.add(piece, complete=False, on_its_way=False)
    assert sent(upload, pieces=[*after, b""]) == body
    assert upload.total_bytes == len(body)
    assert upload.complete
    assert upload.replayable
    length, data = upload.begin(None)
    assert (length, data) == (len(body), body)  # what is known as a whole needs no chunks
    assert upload.sent


def test_an_empty_body() -> None:
    upload = Upload(0)
    upload.add(b"", complete=True, on_its_way=False)
    assert upload.begin(None) == (0, b"")
    assert upload.sent
    chunked = Upload(None)
    assert chunked.begin(None) == (None, b"")
    assert not chunked.sent
    chunked.add(b"", complete=True, on_its_way=True)
    assert chunked.more(b"") == b"0\r\n\r\n"
    assert chunked.sent


def test_more_than_the_limit_is_not_held() -> None:
    """Exactly the limit is; one byte more is sent on and forgotten."""
    upload = Upload(None)
    upload.begin(None)
    upload.add(b"x" * REPLAY_LIMIT_BYTES, complete=False, on_its_way=True)
    assert upload.replayable
    upload.add(b"x", complete=False, on_its_way=True)
    assert not upload.replayable
    upload.add(b"y", complete=True, on_its_way=True)
    assert not upload.replayable
    assert upload.total_bytes == REPLAY_LIMIT_BYTES + 2
    assert upload.more(b"y") == b"1\r\ny\r\n0\r\n\r\n"


def test_what_waits_for_a_connection_is_held_whatever_its_size() -> None:
    """It has not been sent at all: without it the request would be lost."""
    upload = Upload(None)
    upload.add(b"x" * (REPLAY_LIMIT_BYTES + 1), complete=True, on_its_way=False)
    assert upload.replayable
    assert upload.begin(None)[0] == REPLAY_LIMIT_BYTES + 1


def test_an_unfinished_attempt_does_not_count_for_the_next() -> None:
    upload = Upload(10)
    upload.add(b"12345", complete=False, on_its_way=False)
    assert upload.begin(None) == (10, b"12345")
    assert not upload.sent
    upload.add(b"67", complete=False, on_its_way=True)
    assert upload.more(b"67") == b"67"
    assert upload.begin(None) == (10, b"1234567")
    upload.add(b"890", complete=True, on_its_way=True)
    assert upload.more(b"890") == b"890"
    assert upload.sent


# ── ids for SGLang ─────────────────────────────────────────────────────────────────────────────


def without_rid(body: bytes, upload: Upload) -> bytes:
    """The body as the client sent it. The id is in it, and it is the one that would be aborted."""
    assert upload.rid is not None
    assert json.loads(body)["rid"] == upload.rid
    assert len(upload.rid) == RID_CHARS
    return body.replace(b',"rid":"%b"' % upload.rid.encode(), b"")


def test_a_whole_body_carries_an_id() -> None:
    upload = Upload(len(PROMPT))
    upload.add(PROMPT, complete=True, on_its_way=False)
    assert upload.rid is None
    length, data = upload.begin(CHAT)
    assert without_rid(unframed(length, data), upload) == PROMPT


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("cut", [1, 5, 20, len(PROMPT) - 1])
def test_a_growing_body_carries_an_id(announced: bool, cut: int) -> None:
    upload = Upload(len(PROMPT) if announced else None)
    upload.add(PROMPT[:cut], complete=False, on_its_way=False)
    body = sent(upload, pieces=[PROMPT[cut:]], carrying=CHAT)
    assert without_rid(body, upload) == PROMPT


def test_every_attempt_has_an_id_of_its_own() -> None:
    upload = Upload(len(PROMPT))
    upload.add(PROMPT, complete=True, on_its_way=False)
    rids = set()
    for _ in range(3):
        upload.begin(CHAT)
        rids.add(upload.rid)
    assert len(rids) == 3
    assert None not in rids
    upload.begin(None)
    assert upload.rid is None


@pytest.mark.parametrize("body", [b"", b"[]", b"not json", b'{"n":2}', b'{"rid":"mine"}'])
@pytest.mark.parametrize("complete", [True, False])
def test_a_body_that_cannot_carry_one_goes_as_it_is(body: bytes, complete: bool) -> None:
    """At most as much white space is put behind it as was announced for an id."""
    upload = Upload(len(body))
    upload.add(body, complete=complete, on_its_way=False)
    read = sent(upload, pieces=[] if complete else [b""], carrying=CHAT)
    assert upload.rid is None
    assert read.startswith(body)
    assert read[len(body) :].strip(b" ") == b""


def test_an_id_of_the_clients_is_the_one_to_abort() -> None:
    own = "r" * RID_CHARS
    body = b'{"rid":"%b"}' % own.encode()
    upload = Upload(len(body))
    upload.add(body, complete=True, on_its_way=False)
    assert upload.begin(CHAT) == (len(body), body)
    assert upload.rid == own

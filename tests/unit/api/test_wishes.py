"""What a request asks for: read from head and body, the head before the body, and never a reason to fail."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.recording_client import make_request
from vastproxy.api.wishes import HeadWish, Wishes, content_type
from vastproxy.services.dispatch.claim import Claim
from vastproxy.services.dispatch.need import ANY_MODEL
from vastproxy.services.http1.grammar import Header
from vastproxy.services.routing.policy import NO_HINT, Hint
from vastproxy.services.routing.ticket import Priority
from vastproxy.settings.routing import RoutingSettings

LONG = "a prompt that is long enough to be known again. " * 40
FORM = (
    b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n\x00\xff"model"\r\n'
    b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper\r\n--x--\r\n'
)


def make(*, header: str | None = None, cookie: str | None = None) -> Wishes:
    return Wishes(RoutingSettings(session_header=header, session_cookie=cookie))


def read(
    wishes: Wishes, body: bytes | None = None, headers: Sequence[Header] = (), *, step: int | None = None
) -> Claim:
    """What is noted of a request. `step`: its body comes in pieces of so many bytes."""
    claim = Claim()
    wish = wishes.read_head(claim, make_request(b"POST", b"/v1/x", headers=headers))
    if body is None:
        return claim
    if step is None:
        wishes.read_body(claim, wish, body)
    else:
        reader = wishes.begin(wish)
        for start in range(0, len(body), step):
            reader.feed(body[start : start + step])
        wishes.read_pieces(claim, wish, reader)
    return claim


def named(session: str) -> Header:
    return (b"x-session", session.encode())


# ── the head ───────────────────────────────────────────────────────────────────────────────────


def test_a_request_that_says_nothing() -> None:
    claim = read(make())
    assert (claim.model, claim.stream, claim.hint) == (ANY_MODEL, None, NO_HINT)
    assert claim.priority is Priority.INTERACTIVE


@pytest.mark.parametrize(
    ("value", "priority"),
    [
        (b"batch", Priority.BATCH),
        (b" Batch ", Priority.BATCH),
        (b"interactive", Priority.INTERACTIVE),
        (b"urgent", Priority.INTERACTIVE),
        (b"", Priority.INTERACTIVE),
        (b"\xff", Priority.INTERACTIVE),
    ],
)
def test_how_urgent_it_is(value: bytes, priority: Priority) -> None:
    assert read(make(), headers=[(b"x-vastproxy-priority", value)]).priority is priority


@pytest.mark.parametrize(
    ("value", "pin"),
    [
        (b"17", 17),
        (b"017", 17),
        (b"9" * 18, 10**18 - 1),
        (b"9" * 19, None),
        (b"", None),
        (b"-1", None),
        (b"1e3", None),
        (b"0x11", None),
        (b"1_0", None),
        (b"\xd9\xa1\xd9\xa7", None),
        (b"\xb2", None),
    ],
)
def test_a_pin_is_an_id_or_nothing(value: bytes, pin: int | None) -> None:
    assert read(make(), headers=[(b"x-vastproxy-instance", value)]).hint.pin == pin


def test_the_last_of_several_pins_counts() -> None:
    headers = [(b"x-vastproxy-instance", b"1"), (b"x-vastproxy-instance", b"2")]
    assert read(make(), headers=headers).hint.pin == 2


def test_the_head_is_read_once_for_all_requests_that_begin_alike() -> None:
    wishes, request = make(), make_request(headers=[(b"x-vastproxy-instance", b"3")])
    first, second = Claim(), Claim()
    assert wishes.read_head(first, request) is wishes.read_head(second, request)
    assert isinstance(request.facts.wish, HeadWish)
    assert second.hint == first.hint == Hint((), None, 3)


def test_a_body_that_does_not_say_what_it_is_is_taken_for_json() -> None:
    assert content_type(make_request()) == b"application/json"
    assert content_type(make_request(headers=[(b"content-type", b"text/plain")])) == b"text/plain"


# ── sessions ───────────────────────────────────────────────────────────────────────────────────


def session(wishes: Wishes, *headers: Header, body: bytes | None = None) -> int | None:
    return read(wishes, body, headers).hint.session


def test_a_session_is_the_same_wherever_its_name_stands() -> None:
    wishes = make(header="X-Session", cookie="sid")
    by_header = session(wishes, named("abc"))
    assert by_header is not None
    assert by_header == session(wishes, (b"cookie", b"sid=abc"))
    assert by_header == session(wishes, body=b'{"model":"m","session_id":"abc"}')
    assert by_header != session(wishes, named("abd"))


def test_the_header_comes_before_the_cookie_and_both_before_the_body() -> None:
    wishes = make(header="X-Session", cookie="sid")
    body, cookie = b'{"model":"m","user":"u"}', (b"cookie", b"sid=c")
    header, of_cookie, of_body = (
        session(wishes, named("h")),
        session(wishes, cookie),
        session(wishes, body=body),
    )
    assert len({header, of_cookie, of_body, None}) == 4
    assert session(wishes, named("h"), cookie, body=body) == header
    assert session(wishes, cookie, body=body) == of_cookie
    assert session(wishes, named(""), cookie) == of_cookie


def test_what_is_not_configured_names_no_session() -> None:
    assert session(make(), named("abc"), (b"cookie", b"sid=abc")) is None
    assert session(make(header="X-Session"), (b"cookie", b"sid=abc")) is None
    assert session(make(cookie="sid"), named("abc")) is None


@pytest.mark.parametrize(
    "cookies",
    [
        b"sid=abc",
        b"a=b; sid=abc",
        b"a=b;sid=abc;c=d",
        b' sid = "abc" ; c=d',
        b'prefs={"theme":"dark"}; sid=abc',
        b"no-equals-sign; sid=abc",
        b"broken[x]=1; sid=abc",
        b"=; ; sid=abc",
        b"path=/; sid=abc",
        b"a=\xff\xfe; sid=abc",
    ],
)
def test_a_cookie_is_found_among_whatever_others_there_are(cookies: bytes) -> None:
    wishes = make(cookie="sid")
    assert session(wishes, (b"cookie", cookies)) == session(wishes, (b"cookie", b"sid=abc")) is not None


@pytest.mark.parametrize(
    "cookies", [b"", b"sid", b"sid=", b'sid=""', b"SID=abc", b"xsid=abc", b"a=sid=abc", b";;;"]
)
def test_a_cookie_that_is_not_there(cookies: bytes) -> None:
    assert session(make(cookie="sid"), (b"cookie", cookies)) is None


def test_a_cookie_may_stand_in_any_of_several_headers() -> None:
    """HTTP/2 lets clients split them, and what stands between need not join them again."""
    wishes = make(cookie="sid")
    found = session(wishes, (b"cookie", b"sid=abc"), (b"cookie", b"a=b"))
    assert found == session(wishes, (b"cookie", b"sid=abc")) is not None


def test_the_name_of_a_session_is_not_kept() -> None:
    claim = read(make(header="X-Session"), b'{"model":"m"}', [named("very-secret")])
    assert "very-secret" not in repr(claim.hint)
    assert claim.hint != read(make(header="X-Session"), b'{"model":"m"}', [named("very-secret")]).hint


@given(st.binary(max_size=300), st.binary(max_size=60))
def test_any_head_is_read(cookies: bytes, other: bytes) -> None:
    """A client that sends garbage is not tied to anything by it, and does no harm."""
    wishes = make(header="X-Session", cookie="sid")
    headers = [
        (b"cookie", cookies),
        (b"x-vastproxy-instance", other),
        (b"x-vastproxy-priority", other),
        (b"content-type", other),
    ]
    claim = read(wishes, headers=headers)
    assert claim.hint.pin is None or claim.hint.pin < 10**18


# ── the body ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("step", [None, 1, 7])
@pytest.mark.parametrize(
    ("said", "model", "stream"),
    [
        ({"model": "m", "stream": True}, "m", True),
        ({"messages": [{"model": "inner"}], "stream": False, "model": "m"}, "m", False),
        ({"model": "", "stream": None}, None, None),
        ({"messages": []}, None, None),
        ({"model": None}, None, None),
        ({"model": 7}, None, None),
        ({"model": ["m"]}, None, None),
        ({"model": "ü/…\n"}, "ü/…\n", None),
        ({}, None, None),
    ],
)
def test_the_model_and_whether_it_streams(
    said: object, model: str | None, stream: bool | None, step: int | None
) -> None:
    claim = read(make(), json.dumps(said).encode(), step=step)
    assert (claim.model, claim.stream) == (model, stream)


@pytest.mark.parametrize("step", [None, 1, 1000])
@pytest.mark.parametrize("last", [False, True])
def test_the_model_of_a_body_that_is_too_long_to_be_parsed(last: bool, step: int | None) -> None:
    text = '"model":"not this one" \\u0022 { [' * 1200
    said = {"messages": [{"role": "user", "content": text}]}
    body = json.dumps({**said, "model": "m"} if last else {"model": "m", **said}).encode()
    assert len(body) > 32 * 1024
    assert read(make(), body, step=step).model == "m"


@pytest.mark.parametrize("step", [None, 1, 7])
def test_the_model_of_a_form(step: int | None) -> None:
    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    assert read(make(), FORM, headers, step=step).model == "whisper"


@pytest.mark.parametrize("step", [None, 7])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"[1]",
        b"\x1f\x8b\x08\x00\x00",
        b"{",
        b'{"model":"m"',
        b'{"model":"m"} more',
        b"\xff" * 99,
        b"{" * 9999,
    ],
    ids=lambda body: repr(body)[:16],
)
def test_a_body_that_is_no_object_is_nobodys_business(body: bytes, step: int | None) -> None:
    """The engine will say what it thinks of it; at most what came of an object is believed."""
    claim = read(make(), body, step=step)
    assert claim.model in (ANY_MODEL, None, "m")
    if body[:1] != b"{" and body:
        assert (claim.model, claim.stream, claim.hint) == (ANY_MODEL, None, NO_HINT)


@pytest.mark.parametrize("step", [None, 100])
def test_prompts_that_begin_alike_have_a_beginning_in_common(step: int | None) -> None:
    wishes = make()

    def prefix(*turns: str) -> Sequence[int]:
        said = {"model": "m", "messages": [{"role": "user", "content": turn} for turn in turns]}
        return read(wishes, json.dumps(said).encode(), step=step).hint.prefix

    first, longer, other = prefix(LONG), prefix(LONG, "and then?" * 100), prefix("another" + LONG)
    assert first
    assert longer[: len(first)] == first
    assert other[0] != first[0]


def test_a_pin_and_a_session_of_the_head_keep_what_the_prompt_says() -> None:
    wishes = make(header="X-Session")
    body = json.dumps({"model": "m", "messages": [{"content": LONG}], "user": "u"}).encode()
    plain = read(wishes, body).hint
    tied = read(wishes, body, [named("s"), (b"x-vastproxy-instance", b"5")]).hint
    assert plain.prefix == tied.prefix != ()
    assert (tied.pin, tied.session) == (5, session(wishes, named("s")))
    assert plain.session == session(wishes, body=b'{"user":"u"}')
    pinned = read(wishes, body, [(b"x-vastproxy-instance", b"5")]).hint
    assert pinned == Hint(plain.prefix, plain.session, 5)


@given(
    st.binary(max_size=400), st.sampled_from([b"", b"multipart/form-data; boundary=x", b"application/json"])
)
def test_any_body_is_read(body: bytes, kind: bytes) -> None:
    for step in (None, 3):
        read(make(), body, [(b"content-type", kind)] if kind else [], step=step)

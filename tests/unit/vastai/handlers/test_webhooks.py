"""Which events are let in, how often, and what is read from them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vastai.support import data
from vastproxy.vastai.handlers.webhooks import (
    MAX_BODY_BYTES,
    Headers,
    Inbox,
    Notice,
    Origin,
    WebhookRefused,
    read_notice,
    read_report,
    sign,
)

SECRET = "fixture-webhook-secret"
TOKEN = "t0ken-of-instances"
NOW = 1_786_300_000


def vector(name: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    recorded = data(f"webhook_event_{name}.json")
    assert recorded["secret"] == SECRET
    headers = [(key.lower().encode(), value.encode()) for key, value in recorded["headers"].items()]
    return headers, recorded["raw_body"].encode()


def signed(body: bytes, *, at: int | str = NOW, secret: str = SECRET) -> list[tuple[bytes, bytes]]:
    signature = sign(secret, at, body)  # type: ignore[arg-type]  # a test signs what is no number too
    return [(b"x-vast-timestamp", str(at).encode()), (b"x-vast-signature-256", signature.encode())]


def bearer(token: str = TOKEN) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {token}".encode())]


def inbox(**over: Any) -> Inbox:
    return Inbox(**{"secret": SECRET, "token": TOKEN, **over})


def refusal(box: Inbox, headers: Headers, body: bytes, now: float = NOW) -> tuple[int, str]:
    with pytest.raises(WebhookRefused) as caught:
        box.take(headers, body, now=now)
    assert SECRET not in str(caught.value)
    assert TOKEN not in str(caught.value)
    return caught.value.http_status, caught.value.code


# --- signed events ---------------------------------------------------------------------------------------


def test_recorded_events_are_let_in_and_read() -> None:
    box = inbox()
    headers, body = vector("outbid")
    notice = box.take(headers, body, now=NOW + 10)
    assert notice == Notice(Origin.VAST, "outbid", (48001006,), "5f0c2a7be1f04a0f9a4c1f7f2d1c9b3e")
    headers, body = vector("test")
    notice = box.take(headers, body, now=NOW)
    assert notice is not None
    assert (notice.slug, notice.ids) == ("webhook_test", ())


@pytest.mark.parametrize("off_s", [-300, 300])
def test_the_window_is_300_seconds_to_both_sides(off_s: int) -> None:
    headers, body = vector("outbid")
    assert inbox().take(headers, body, now=NOW + off_s) is not None
    assert refusal(inbox(), headers, body, NOW + off_s + off_s / 300) == (401, "stale_timestamp")


def test_a_changed_byte_anywhere_is_refused() -> None:
    headers, body = vector("outbid")
    for where in range(0, len(body), 7):
        changed = body[:where] + bytes([body[where] ^ 1]) + body[where + 1 :]
        assert refusal(inbox(), headers, changed) == (401, "invalid_signature")


def test_the_timestamp_is_signed_too() -> None:
    headers, body = vector("outbid")
    moved = [(name, b"1786300001" if name == b"x-vast-timestamp" else value) for name, value in headers]
    assert refusal(inbox(), moved, body) == (401, "invalid_signature")


@pytest.mark.parametrize(
    "signature",
    [b"", b"sha256=", b"sha1=e717", b"e717bc3a", b"sha256=" + b"0" * 64, b"sha256=\xff\xfe", b"=" * 500],
)
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    headers = [(b"x-vast-timestamp", str(NOW).encode()), (b"x-vast-signature-256", signature)]
    assert refusal(inbox(), headers, vector("outbid")[1]) == (401, "invalid_signature")


@pytest.mark.parametrize("at", ["", "soon", "-5", "1786300000.5", "1e9", "9" * 13])
def test_a_signed_timestamp_that_is_no_number_is_a_bad_event(at: str) -> None:
    assert refusal(inbox(), signed(b"{}", at=at), b"{}") == (400, "invalid_event")


@pytest.mark.parametrize("name", [b"x-vast-timestamp", b"x-vast-signature-256", b"authorization"])
def test_a_header_that_comes_twice_is_refused(name: bytes) -> None:
    headers, body = vector("outbid")
    twice = [*headers, *bearer(), (name, dict([*headers, *bearer()])[name])]
    assert refusal(inbox(), twice, body) == (400, "invalid_event")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"\xff", b"{", b"[" * 50_000, b"1" * 10_000])
def test_a_signed_body_that_is_no_object_is_a_bad_event(body: bytes) -> None:
    assert refusal(inbox(), signed(body), body) == (400, "invalid_event")


def test_a_signature_is_not_made_good_by_a_token() -> None:
    headers = [*signed(b"{}", secret="wrong"), *bearer()]
    assert refusal(inbox(), headers, b"{}") == (401, "invalid_signature")


# --- again -----------------------------------------------------------------------------------------------


def test_an_event_counts_once_however_often_it_is_delivered() -> None:
    """A later delivery has a time and a signature of its own, and may say another id in a header."""
    box = inbox()
    headers, body = vector("outbid")
    assert box.take(headers, body, now=NOW) is not None
    assert box.take(headers, body, now=NOW) is None
    again = [*signed(body, at=NOW + 250), (b"x-vast-event-id", b"another")]
    assert box.take(again, body, now=NOW + 250) is None


def test_a_copy_of_an_event_without_an_id_counts_once() -> None:
    box, body = inbox(), b'{"notif_type":"outbid"}'
    assert box.take(signed(body), body, now=NOW) is not None
    assert box.take(signed(body), body, now=NOW) is None
    assert box.take(signed(body, at=NOW + 1), body, now=NOW) is not None


def test_the_memory_is_bounded_and_forgets_the_oldest() -> None:
    box = inbox(remembered=2)

    def send(name: str) -> bool:
        body = json.dumps({"event_id": name}).encode()
        return box.take(signed(body), body, now=NOW) is not None

    assert [send(name) for name in "abac"] == [True, True, False, True]
    assert repr(box) == "<Inbox open=True heard=2>"
    assert send("a") is False, "it was heard more recently than b"
    assert send("b") is True


def test_a_refused_event_is_not_remembered() -> None:
    box = inbox()
    headers, body = vector("outbid")
    refusal(box, signed(body, secret="wrong"), body)
    assert box.take(headers, body, now=NOW) is not None


def test_an_instance_cannot_take_the_place_of_an_event_of_vast_ai() -> None:
    box = inbox()
    headers, body = vector("outbid")
    assert box.take(bearer(), body, now=NOW) is not None
    assert box.take(bearer(), body, now=NOW) is None
    assert box.take(headers, body, now=NOW) is not None


# --- instances' events -----------------------------------------------------------------------------------


def test_an_instance_with_the_token_is_let_in_again_after_a_minute() -> None:
    box, body = inbox(), json.dumps(data("onstart_callback_event.json")).encode()
    expected = Notice(Origin.INSTANCE, "onstart", (48001001,))
    times = (0, 30, 59, 61, 90, -3600)
    heard = [box.take(bearer(), body, now=NOW + at) for at in times]
    assert heard == [expected, None, None, expected, None, expected]


def test_a_machine_cannot_keep_others_from_serving() -> None:
    """All have the same token. Whatever else such an event says, and whatever id it has, the same about the same
    instance counts once; what is said of another one, or something else, counts."""
    box = inbox(remembered=64)

    def say(event: str, id: int, number: int) -> bool:
        said = {"event": event, "container_id": id, "instance_id": 1000 + number, "event_id": str(number)}
        return box.take(bearer(), json.dumps(said).encode(), now=NOW + number / 1000) is not None

    assert sum(say("down", 7, number) for number in range(200)) == 1
    assert say("up", 7, 300)
    assert say("down", 8, 301)


def test_what_instances_say_does_not_push_out_what_vast_ai_has_said() -> None:
    """Else an event of vast.ai's that somebody has recorded would count a second time."""
    box = inbox(remembered=2)
    headers, body = vector("outbid")
    assert box.take(headers, body, now=NOW) is not None
    for number in range(4):
        report = json.dumps({"event": "up", "event_id": str(number)}).encode()
        assert box.take(bearer(), report, now=NOW) is not None
    assert box.take(headers, body, now=NOW) is None


@pytest.mark.parametrize(
    "authorization", [b"", b"Bearer", b"Bearer ", b"Bearer wrong", b"Basic " + TOKEN.encode(), b"\xff \xff"]
)
def test_another_token_is_refused(authorization: bytes) -> None:
    assert refusal(inbox(), [(b"authorization", authorization)], b"{}") == (401, "invalid_signature")


def test_nothing_at_all_is_refused() -> None:
    assert refusal(inbox(), [], b"{}") == (401, "invalid_signature")


def test_the_signing_secret_is_no_token_and_without_one_nobody_is_let_in() -> None:
    assert refusal(inbox(), bearer(SECRET), b"{}")[0] == 401
    assert refusal(inbox(token=None), bearer(SECRET), b"{}")[0] == 401
    assert refusal(inbox(token=None), bearer(""), b"{}")[0] == 401
    assert refusal(inbox(secret=None), *vector("outbid"))[0] == 401
    assert inbox(secret=None).take(bearer(), b"{}", now=NOW) is not None
    assert inbox(token=None).take(*vector("outbid"), now=NOW) is not None


def test_a_proxy_that_takes_no_events_says_so() -> None:
    box = inbox(secret=None, token=None)
    assert not box.is_open
    assert refusal(box, *vector("outbid")) == (404, "webhooks_off")


def test_a_body_that_is_too_large_is_refused_unread() -> None:
    body = b" " * (MAX_BODY_BYTES - 2) + b"{}"
    assert inbox().take(bearer(), body, now=NOW) is not None
    assert refusal(inbox(), bearer(), b" " + body) == (413, "request_too_large")


# --- what is read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "slug", "ids"),
    [
        ({}, "", ()),
        ({"notif_type": None, "subject": 5, "message": []}, "", ()),
        ({"notif_type": "client:Outbid "}, "outbid", ()),
        ({"notif_type": "something_new\n\x1b[31m"}, "something_new [31m", ()),
        ({"notif_type": "x" * 100}, "x" * 63 + "…", ()),
        ({"instance_id": "48001006", "associated_id": {"instance_id": 48001007}}, "", (48001006, 48001007)),
        ({"instance_id": -5, "associated_id": 7}, "", ()),
        ({"subject": "C.48001006: #48001007, (48001008)"}, "", (48001006, 48001007, 48001008)),
        ({"message": "48001006 48001006 costs 10000.25 or 0.12345, 1234 times"}, "", (48001006,)),
        (
            {"message": " ".join(str(10_000_000 + n) for n in range(100))},
            "",
            tuple(range(10_000_000, 10_000_032)),
        ),
        ({"message": "9" * 16}, "", ()),
    ],
)
def test_a_notice_is_read_leniently(event: dict[str, Any], slug: str, ids: tuple[int, ...]) -> None:
    notice = read_notice(json.dumps(event).encode())
    assert (notice.slug, notice.ids, notice.event_id) == (slug, ids, None)


@pytest.mark.parametrize(
    ("event", "slug", "ids"),
    [
        ({}, "", ()),
        ({"event": "UP", "container_id": 7}, "up", (7,)),
        ({"event": "up", "label": "C.48001001"}, "up", (48001001,)),
        ({"event": "up", "label": "my label 48001001"}, "up", ()),
    ],
)
def test_a_report_is_read_leniently(event: dict[str, Any], slug: str, ids: tuple[int, ...]) -> None:
    notice = read_report(json.dumps(event).encode())
    assert (notice.slug, notice.ids) == (slug, ids)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "event_id",
    "notif_type",
    "subject",
    "message",
    "instance_id",
    "associated_id",
    "event",
    "action",
    "label",
)


@given(
    st.binary(max_size=200)
    | st.dictionaries(st.sampled_from(KEYS), JSON).map(lambda event: json.dumps(event).encode())
)
def test_whatever_is_signed_gives_a_notice_or_is_a_bad_event(body: bytes) -> None:
    box, status = inbox(), 0
    for headers in (signed(body), bearer()):
        try:
            notice = box.take(headers, body, now=NOW)
        except WebhookRefused as refused:
            notice, status = None, refused.http_status
        assert notice is None or all(number > 0 for number in notice.ids)
    assert status in (0, 400)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"x-vast-timestamp", b"x-vast-signature-256", b"authorization", b"other"]),
            st.binary(max_size=80),
        ),
        max_size=4,
    ),
    st.binary(max_size=50),
)
def test_nothing_is_let_in_by_chance(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    assert refusal(inbox(), headers, body)[0] in (400, 401)

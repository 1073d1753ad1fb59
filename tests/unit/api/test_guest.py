"""A request whose key has limits."""

import json

import pytest

from tests.helpers.exchanging import Scene, settle
from tests.helpers.recording_client import RecordingClient, make_request
from vastproxy.api.errors import ApiError
from vastproxy.api.exchange import Exchange
from vastproxy.api.guest import Guest
from vastproxy.api.upload import Upload
from vastproxy.services.access.callers import Caller, Callers
from vastproxy.services.access.records import KeyBook, KeyLimits, Right
from vastproxy.services.http1.framing import EMPTY


def caller_of(limits: KeyLimits) -> Caller:
    book, _, key = KeyBook().create("web", rights=frozenset({Right.INFERENCE}), limits=limits, now=0.0)
    caller = Callers(book=book).find([b"Bearer " + key.encode()])
    assert caller is not None
    return caller


def error(refusal: ApiError | None) -> tuple[int, str, str, str | None]:
    assert refusal is not None
    body = json.loads(refusal.body())["error"]
    return refusal.status, body["type"], body["code"], body["param"]


def asking(
    guest: Guest, model: str | None, body: bytes = b'{"model": "x"}', *, complete: bool = True
) -> ApiError | None:
    """The answer to a body in which this model was found."""
    upload = Upload(None)
    upload.add(body, complete=complete, on_its_way=False)
    return guest.refusal(model, make_request(b"POST", b"/v1/x"), upload)


def test_who_has_no_limits_is_no_guest() -> None:
    assert not caller_of(KeyLimits(priority="batch")).is_limited
    assert caller_of(KeyLimits(models=("a",))).is_limited
    assert caller_of(KeyLimits(tokens_per_min=1)).is_limited


def test_a_guest_is_counted_from_its_begin_to_its_end() -> None:
    caller = caller_of(KeyLimits(concurrent=1))
    first, second = Guest(caller), Guest(caller)
    assert first.enter(0.0) is None
    refusal = second.enter(0.0)
    assert error(refusal) == (429, "rate_limit_error", "rate_limit_exceeded", None)
    assert refusal is not None
    assert (b"retry-after", b"1") in refusal.headers(0)
    second.leave(0.0)
    assert Guest(caller).enter(0.0) is not None, "who was refused gives nothing back"
    first.leave(0.0)
    first.leave(0.0)
    assert Guest(caller).enter(0.0) is None
    assert Guest(caller).enter(0.0) is not None


@pytest.mark.virtual_time
async def test_a_request_whose_end_cannot_be_told_gives_its_place_back(scene: Scene) -> None:
    """A fault in what is done at the end costs a line in a log, and not the key's place until a restart."""
    caller = caller_of(KeyLimits(concurrent=1))

    def disk_full(*_: object) -> None:
        raise OSError("no space left on device")

    scene.tools.note = disk_full
    request = make_request(b"GET", b"/v1/x", framing=EMPTY)
    exchange = Exchange(scene.tools, request, RecordingClient(), b"r1")
    exchange.admit(Guest(caller))
    exchange.begin(b"", complete=True)
    await settle()
    assert Guest(caller).enter(0.0) is not None, "its place is taken while it runs"
    with pytest.raises(OSError, match="no space left"):
        exchange.client_left()
    assert Guest(caller).enter(0.0) is None


def test_a_refusal_says_how_much_is_left() -> None:
    caller = caller_of(KeyLimits(requests_per_min=60, tokens_per_min=100))
    guest = Guest(caller)
    assert guest.enter(0.0) is None
    assert guest.wants_tokens
    assert b"x-ratelimit-remaining-requests: 59\r\n" in guest.lines(0.0)
    guest.leave(0.0, 250)
    refusal = Guest(caller).enter(1.0)
    assert error(refusal) == (429, "rate_limit_error", "rate_limit_exceeded", None)
    assert refusal is not None
    headers = dict(refusal.headers(0))
    assert headers[b"retry-after"] == b"90"
    assert headers[b"x-ratelimit-remaining-tokens"] == b"0"
    assert headers[b"x-ratelimit-limit-tokens"] == b"100"


def test_a_guest_may_ask_for_its_models_only() -> None:
    guest = Guest(caller_of(KeyLimits(models=("llama-*",))))
    assert guest.needs_model
    assert guest.enter(0.0) is None
    assert asking(guest, "llama-3") is None
    assert error(asking(guest, "gpt")) == (403, "invalid_request_error", "model_not_allowed", "model")
    assert error(asking(guest, None)) == (403, "invalid_request_error", "model_not_allowed", "model")
    assert guest.lines(0.0) == b""
    long = asking(guest, "x" * 10_000)
    assert long is not None
    assert len(long.message) < 300


def test_a_guest_must_not_name_another_model_beside_its_own() -> None:
    """The engine would take the other one. What has not come whole could go on so."""
    guest = Guest(caller_of(KeyLimits(models=("llama-*",))))
    for body in (b'{"model": "llama-3", "model": "gpt"}', b'{"model": "llama-3", "Model": "gpt"}'):
        assert error(asking(guest, "llama-3", body)) == (
            403,
            "invalid_request_error",
            "model_not_allowed",
            "model",
        )
    refused = error(asking(guest, "llama-3", b'{"model": "llama", ', complete=False))
    assert refused == (413, "invalid_request_error", "request_too_large", None)


def test_a_guest_with_other_limits_may_ask_for_any_model() -> None:
    guest = Guest(caller_of(KeyLimits(concurrent=1)))
    assert not guest.needs_model
    assert not guest.wants_tokens
    assert asking(guest, None, b"{}") is None
    assert asking(guest, "m", b'{"model": "m", "model": "n"}') is None

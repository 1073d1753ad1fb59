"""What engines are told of the client, in the three modes."""

import pytest

from tests.helpers.recording_client import RecordingClient, make_request
from vastproxy.api.forwarded import Forwarding, Mode
from vastproxy.services.http1.grammar import Header


def told(mode: Mode, headers: list[Header], *, peer: str = "203.0.113.7", scheme: str = "http") -> list[str]:
    request = make_request(headers=headers, host=b"api.example")
    lines = Forwarding(mode).lines(request, RecordingClient(peer=peer, scheme=scheme))
    assert lines.endswith(b"\r\n") or not lines
    return lines.decode().splitlines()


BROUGHT = [
    (b"x-forwarded-for", b"198.51.100.1"),
    (b"x-forwarded-for", b"198.51.100.2, 198.51.100.3"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"outer.example"),
    (b"forwarded", b"for=198.51.100.1;proto=https"),
    (b"x-other", b"1"),
]


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_of_a_client_that_brings_nothing(mode: Mode) -> None:
    assert told(mode, [(b"x-other", b"1")]) == [
        "x-forwarded-for: 203.0.113.7",
        "x-forwarded-proto: http",
        "x-forwarded-host: api.example",
    ]


def test_append_adds_the_client_to_what_it_brought() -> None:
    assert told("append", BROUGHT) == [
        "x-forwarded-for: 198.51.100.1, 198.51.100.2, 198.51.100.3, 203.0.113.7",
        "x-forwarded-proto: https",
        "x-forwarded-host: outer.example",
        "forwarded: for=198.51.100.1;proto=https, for=203.0.113.7;proto=http",
    ]


def test_replace_believes_nothing() -> None:
    assert told("replace", BROUGHT, scheme="https") == [
        "x-forwarded-for: 203.0.113.7",
        "x-forwarded-proto: https",
        "x-forwarded-host: api.example",
    ]


@pytest.mark.parametrize("headers", [[], BROUGHT])
def test_remove_tells_nothing(headers: list[Header]) -> None:
    assert told("remove", headers) == []


def test_an_address_with_colons_is_quoted_where_it_must_be() -> None:
    lines = told("append", BROUGHT[-2:], peer="2001:db8::1")
    assert lines[0] == "x-forwarded-for: 2001:db8::1"
    assert lines[-1].endswith(', for="[2001:db8::1]";proto=http')


def test_a_client_without_an_address_is_unknown() -> None:
    assert told("append", [], peer="")[0] == "x-forwarded-for: unknown"


def test_an_empty_list_is_no_beginning() -> None:
    lines = told("append", [(b"x-forwarded-for", b""), (b"forwarded", b"")])
    assert lines[0] == "x-forwarded-for: 203.0.113.7"
    assert lines[-1] == "forwarded: for=203.0.113.7;proto=http"


def test_without_a_host_none_is_told() -> None:
    request = make_request(host=b"", minor=0)
    lines = Forwarding("append").lines(request, RecordingClient())
    assert b"host" not in lines

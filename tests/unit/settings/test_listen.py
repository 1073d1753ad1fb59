"""Listening addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.settings import ListenAddress, SettingsError, is_loopback, parse_listen
from vastproxy.settings.listen import require_keys


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":8080", "127.0.0.1", 8080),
        ("8080", "127.0.0.1", 8080),
        ("0", "127.0.0.1", 0),
        (":0", "127.0.0.1", 0),
        (" 0.0.0.0:80 ", "0.0.0.0", 80),
        ("gpu-gw.example:65535", "gpu-gw.example", 65535),
        ("[::1]:8080", "::1", 8080),
        ("[::]:0", "::", 0),
    ],
)
def test_every_way_to_write_an_address(text: str, host: str, port: int) -> None:
    assert parse_listen(text) == ListenAddress(host, port)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected host:port"),
        ("localhost", "expected host:port"),
        ("http://localhost:80", "without http://"),
        ("::1:8080", "IPv6 address needs brackets"),
        ("[::1]", "expected host:port"),
        ("[nonsense]:80", "expected an IPv6 address in the brackets"),
        ("host:65536", "port from 0 to 65535"),
        ("host:٣", "expected host:port"),
        ("*:80", "write 0.0.0.0"),
        ("300.1.1.1:80", "expected an IP address"),
        ("under score:80", "expected host:port"),
        ("-x:80", "expected a host name"),
    ],
)
def test_an_address_that_cannot_be_used_says_what_to_write(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        parse_listen(text)


def test_an_ipv6_address_is_written_with_brackets() -> None:
    assert str(parse_listen("[::1]:80")) == "[::1]:80"
    assert str(parse_listen(":80")) == "127.0.0.1:80"


@given(st.text())
def test_any_text_is_an_address_or_a_settings_error_of_one_line(text: str) -> None:
    try:
        address = parse_listen(text)
    except SettingsError as error:
        refused = str(error)
        address = None
    assert refused.isprintable() if address is None else parse_listen(str(address)) == address


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST.", "::ffff:127.0.0.1"]
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "", "example.org", "localhost.example", "::ffff:10.0.0.1"]
)
def test_not_loopback(host: str) -> None:
    """Names other than localhost are not trusted: anybody may resolve them to anything."""
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("listen", "has_keys", "insecure"),
    [("127.0.0.1:1", False, False), ("0.0.0.0:1", True, False), ("0.0.0.0:1", False, True)],
)
def test_an_address_is_used_if_it_is_loopback_or_guarded_or_wanted(
    listen: str, has_keys: bool, insecure: bool
) -> None:
    assert require_keys(listen, has_keys=has_keys, insecure=insecure) == parse_listen(listen)


def test_an_open_address_without_keys_is_refused() -> None:
    with pytest.raises(SettingsError, match="VASTPROXY_API_KEYS"):
        require_keys("0.0.0.0:8080", has_keys=False, insecure=False)

"""Listening addresses: how they are written, what they mean, and which of them need keys."""

import ipaddress
import re
from typing import NamedTuple

from vastproxy.settings.errors import SettingsError

DEFAULT_HOST = "127.0.0.1"
_BRACKETED = re.compile(r"\[([^\[\]]*)\]:([0-9]{1,5})")
_PLAIN = re.compile(r"([^:\[\]\s/]*):([0-9]{1,5})")
_PORT_ONLY = re.compile(r"([0-9]{1,5})")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?")


class ListenAddress(NamedTuple):
    """Where a server listens. `host` is without brackets; port 0 means any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> ListenAddress:
    """Read `host:port`, `[::1]:port`, `:port` or `port`. Without a host it is 127.0.0.1.

    Raises SettingsError, whose message says what to write instead and does not name a key.
    """
    text = text.strip()
    if match := _BRACKETED.fullmatch(text):
        return ListenAddress(_ipv6(match[1]), _port(match[2]))
    if match := _PLAIN.fullmatch(text):
        return ListenAddress(_host(match[1]), _port(match[2]))
    if match := _PORT_ONLY.fullmatch(text):
        return ListenAddress(DEFAULT_HOST, _port(match[1]))
    raise SettingsError(f"expected host:port, [ipv6]:port or :port{_hint(text)}")


def checked_listen(text: str) -> str:
    """The text as it is, if `parse_listen` can read it. Raises ValueError, for use as a validator."""
    try:
        parse_listen(text)
    except SettingsError as error:
        raise ValueError(str(error)) from None
    return text


def is_loopback(host: str) -> bool:
    """Can only this machine reach `host`? A name other than `localhost` is never taken for loopback."""
    host = host.strip("[]").partition("%")[0].rstrip(".").lower()
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def require_keys(listen: str, *, has_keys: bool, insecure: bool) -> ListenAddress:
    """The address to listen on, unless that would open the proxy to the network without any key.

    Raises SettingsError when the address is not loopback, there is no key and `insecure` is not set.
    """
    address = parse_listen(listen)
    if not (has_keys or insecure or is_loopback(address.host)):
        raise SettingsError(
            f"server.listen is {address}, which others can reach, but there are no inbound keys: "
            "make one with `vastproxy keys create NAME`, set VASTPROXY_API_KEYS, listen on 127.0.0.1, "
            "or allow it with --insecure"
        )
    return address


def _port(text: str) -> int:
    port = int(text)
    if port > 65_535:
        raise SettingsError(f"expected a port from 0 to 65535, got {port}")
    return port


def _host(text: str) -> str:
    if not text:
        return DEFAULT_HOST
    if text == "*":
        raise SettingsError("expected a host before the port; write 0.0.0.0 to listen on every address")
    if not _HOST.fullmatch(text):
        raise SettingsError(f"expected a host name or an IP address before the port, got {text[:60]!r}")
    if re.fullmatch(r"[0-9.]+", text):
        try:
            ipaddress.IPv4Address(text)
        except ValueError:
            raise SettingsError(f"expected an IP address before the port, got {text[:60]!r}") from None
    return text


def _ipv6(text: str) -> str:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        raise SettingsError(f"expected an IPv6 address in the brackets, got {text[:60]!r}") from None
    return text


def _hint(text: str) -> str:
    if "://" in text:
        return ", without http://"
    if text.count(":") > 1 and "[" not in text:
        return "; an IPv6 address needs brackets"
    return f", got {text[:60]!r}"

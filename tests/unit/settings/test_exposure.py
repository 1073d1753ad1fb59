"""Who may reach the listening side."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from vastproxy.settings import SettingsError, load_settings
from vastproxy.settings.exposure import Exposure


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://Chat.Example.org/", "https://chat.example.org"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://[::1]:8443", "https://[::1]:8443"),
        ("app://obsidian.md", "app://obsidian.md"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("*", "*"),
    ],
)
def test_origins_are_as_browsers_write_them(written: str, origin: str) -> None:
    assert Exposure(cors_origins=(written,)).cors_origins == (origin,)


@pytest.mark.parametrize(
    "written",
    ["", "chat.example.org", "https://*.example.org", "https://a/b", "ftp://a", "null", "https://u@a"],
)
def test_what_is_no_origin_is_refused(written: str) -> None:
    with pytest.raises(ValidationError, match="expected an origin"):
        Exposure(cors_origins=(written,))


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("GPU.Example.org", "gpu.example.org"),
        ("gpu.example.org.", "gpu.example.org"),
        ("host.docker.internal", "host.docker.internal"),
        ("10.0.0.7", "10.0.0.7"),
        ("fd00::7", "[fd00::7]"),
        ("[fd00::7]", "[fd00::7]"),
        ("*", "*"),
    ],
)
def test_hosts_are_as_urls_have_them(written: str, host: str) -> None:
    assert Exposure(allowed_hosts=(written,)).allowed_hosts == (host,)


@pytest.mark.parametrize(
    "written", ["", " ", "http://a", "a:80", "a/b", "*.example.org", "u@a", "-a", "a b", "\u00e9"]
)
def test_what_is_no_host_is_refused(written: str) -> None:
    with pytest.raises(ValidationError, match="expected a host without a port"):
        Exposure(allowed_hosts=(written,))


def test_a_key_without_a_certificate_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"server \(tls_key from .*: expected tls_cert where tls_key is set"
    ):
        load_settings(environ={"VASTPROXY_SERVER__TLS_KEY": "/key.pem"}, cwd=tmp_path)


def test_nothing_is_on_by_itself() -> None:
    assert Exposure() == Exposure(
        tls_cert=None, tls_key=None, hsts_max_age_s=0, cors_origins=(), keys_file=None, allowed_hosts=()
    )

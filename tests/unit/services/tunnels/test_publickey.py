"""What a public key tells about itself."""

import base64
import subprocess
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.sshd import make_key
from vastproxy.services.tunnels.publickey import (
    PublicKey,
    parse_blob,
    parse_line,
    printable,
    shown,
    unusable,
)

KINDS = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"]


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_fingerprint_and_size_are_those_that_ssh_keygen_shows(tmp_path: Path, kind: str) -> None:
    path = make_key(tmp_path / "key", kind=kind)
    public, comment = parse_line(path.with_name("key.pub").read_text())
    listing = subprocess.run(
        ["ssh-keygen", "-lf", str(path)], check=True, capture_output=True, text=True
    ).stdout
    assert listing.split()[:3] == [str(public.bits), public.fingerprint, comment]
    assert public.line == " ".join(path.with_name("key.pub").read_text().split()[:2])


@pytest.mark.parametrize("kind", KINDS)
def test_keys_of_usual_kinds_can_be_used(kind: str) -> None:
    key = asyncssh.generate_private_key(kind)
    public = parse_blob(key.public_data)
    assert (public.kind, public.fingerprint) == (kind, key.get_fingerprint())
    assert str(public) == f"{kind} {public.fingerprint}"
    assert unusable(public) is None


def test_a_weak_or_strange_key_cannot_be_used() -> None:
    weak = parse_blob(asyncssh.generate_private_key("ssh-rsa", key_size=1024).public_data)
    assert "an RSA key of 1024 bits, which is too weak (at least 2048)" in (unusable(weak) or "")
    strange = parse_blob(asyncssh.generate_private_key("ssh-ed448").public_data)
    assert strange.bits is None
    assert "a key of type ssh-ed448; ed25519, ecdsa or rsa is needed" in (unusable(strange) or "")


@given(st.binary(max_size=60))
def test_garbage_is_no_key_or_a_key_of_its_own_kind(blob: bytes) -> None:
    try:
        key = parse_blob(blob)
    except ValueError:
        return
    assert key.blob == blob
    assert parse_line(key.line) == (key, "")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 !!!",
        "ssh-ed25519 AAAA",
        "ssh-rsa " + base64.b64encode(b"\0\0\0\x07ssh-rsa\0\0\0\x01").decode(),
        "ssh-rsa " + base64.b64encode(b"\0\0\0\x0bssh-ed25519").decode(),
        "x " + base64.b64encode(b"\0\0\0\x02\xff\xff").decode(),
    ],
)
def test_lines_that_are_no_key(line: str) -> None:
    with pytest.raises(ValueError, match="not a public key"):
        parse_line(line)
    assert shown(line) == (line or "nothing")


def test_a_key_is_shown_by_its_fingerprint_and_foreign_text_in_one_short_line() -> None:
    key = PublicKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519" + bytes(36))
    assert shown(f"{key.line} a comment") == str(key)
    assert parse_line(f"{key.line} a\x1b[31m   comment")[1] == "a [31m comment"
    assert printable("x" * 500) == "x" * 79 + "…"
    assert "\n" not in printable("a\nb")

"""The public half of key files that cannot be opened, and which case is which."""

from base64 import b64decode, b64encode
from pathlib import Path

import asyncssh
import pytest

from tests.helpers.sshd import make_key
from vastproxy.services.tunnels.keyfile import (
    KeyLocked,
    PrivateKey,
    PublicKeyGiven,
    WrongPassphrase,
    public_half,
    read_private_key,
)
from vastproxy.services.tunnels.publickey import parse_line
from vastproxy.settings.errors import SettingsError

WORDS = "hidden words"


def read(path: Path, passphrase: str | None = None) -> PrivateKey:
    return read_private_key(path, what="key", passphrase=passphrase)


@pytest.mark.parametrize(
    ("kind", "pem"), [("ed25519", False), ("rsa", False), ("ecdsa", False), ("rsa", True), ("ecdsa", True)]
)
def test_a_passphrase_opens_a_key_of_every_format_and_is_in_no_repr(
    tmp_path: Path, kind: str, pem: bool
) -> None:
    path = make_key(tmp_path / "key", kind=kind, pem=pem, passphrase=WORDS)
    public = parse_line(path.with_name("key.pub").read_text())[0]
    key = read(path, WORDS)
    assert key.public == public
    assert key.comment == "test"
    assert key.private.get_fingerprint() == public.fingerprint
    assert WORDS not in repr(key)


def test_a_pkcs8_key_is_opened(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ecdsa-sha2-nistp521")
    path = tmp_path / "key"
    path.write_bytes(key.export_private_key("pkcs8-pem", passphrase=WORDS))
    path.chmod(0o600)
    assert read(path, WORDS).public.fingerprint == key.get_fingerprint()
    assert read(path, WORDS).comment == ""
    with pytest.raises(KeyLocked) as locked:
        read(path)
    assert locked.value.public is None, "only the .pub file could tell"


@pytest.mark.parametrize("pem", [False, True])
def test_a_wrong_passphrase_is_told_and_never_shown(tmp_path: Path, pem: bool) -> None:
    path = make_key(tmp_path / "key", kind="ecdsa", pem=pem, passphrase=WORDS)
    with pytest.raises(WrongPassphrase) as wrong:
        read(path, "other words")
    text = str(wrong.value)
    assert text == f"key: the passphrase given does not open {path}; check VASTPROXY_TUNNELS__KEY_PASSPHRASE"


def test_a_locked_key_says_every_way_out(tmp_path: Path) -> None:
    path = make_key(tmp_path / "my key", passphrase=WORDS)
    with pytest.raises(KeyLocked) as locked:
        read(path)
    text = str(locked.value)
    assert text.startswith(f"key: {path} is protected by a passphrase: set VASTPROXY_TUNNELS__KEY_PASSPHRASE")
    assert f"`ssh-add '{path}'`" in text
    assert f"`ssh-keygen -p -N '' -f '{path}'`" in text
    assert "\n" not in text


@pytest.mark.parametrize("pem", [False, True])
def test_the_public_half_of_a_locked_key_is_known(tmp_path: Path, pem: bool) -> None:
    """OpenSSH's format holds it in the clear; of others the .pub file does."""
    path = make_key(tmp_path / "key", kind="rsa", pem=pem, passphrase=WORDS)
    pub = path.with_name("key.pub")
    expected = parse_line(pub.read_text())[0]
    assert public_half(path, path.read_bytes()) == expected
    pub.unlink()
    assert public_half(path, path.read_bytes()) == (None if pem else expected)


@pytest.mark.parametrize("form", ["openssh", "rfc4716", "pkcs8-pem"])
def test_a_public_key_is_told_apart_and_known(tmp_path: Path, form: str) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    path = tmp_path / "id.pub"
    path.write_bytes(key.export_public_key(form))
    with pytest.raises(PublicKeyGiven) as given:
        read(path)
    assert given.value.public is not None
    assert given.value.public.fingerprint == key.get_fingerprint()


def test_a_broken_public_key_is_one_that_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "id.pub"
    path.write_text("ssh-ed25519 nonsense\n")
    with pytest.raises(PublicKeyGiven) as given:
        read(path)
    assert given.value.public is None


@pytest.mark.parametrize(
    "content", ["", "A" * 40, "b3BlbnNzaC1rZXktdjEA", "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAAB"]
)
def test_a_damaged_file_of_opensshs_format_has_no_public_half(tmp_path: Path, content: str) -> None:
    text = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{content}\n-----END OPENSSH PRIVATE KEY-----\n"
    assert public_half(tmp_path / "key", text.encode()) is None


def test_an_unknown_cipher_is_told(tmp_path: Path) -> None:
    """The name of the cipher is replaced by one of the same length."""
    path = make_key(tmp_path / "key", passphrase=WORDS)
    lines = path.read_text().splitlines()
    packed = b64decode("".join(lines[1:-1])).replace(b"aes256-ctr", b"rot13-ctr!")
    path.write_text("\n".join([lines[0], b64encode(packed).decode(), lines[-1], ""]))
    with pytest.raises(SettingsError, match="is encrypted in a way that is not known"):
        read(path, WORDS)


def test_a_weak_key_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(asyncssh.generate_private_key("ssh-rsa", key_size=1024).export_private_key("pkcs1-pem"))
    path.chmod(0o600)
    with pytest.raises(SettingsError, match=r"key is an RSA key of 1024 bits, which is too weak"):
        read(path)


def test_a_path_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not a path"):
        read(Path("a\0b"))

"""Reading private keys, and what is said about those that cannot be used."""

import os
from pathlib import Path

import asyncssh
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.sshd import make_key
from vastproxy.services.tunnels.base import TunnelTarget
from vastproxy.services.tunnels.keys import ClientKeys, load_client_keys
from vastproxy.settings.errors import SettingsError
from vastproxy.settings.model import TunnelSettings

TARGET = TunnelTarget(123, "123@1", ())


def write_key(path: Path, algorithm: str = "ssh-ed25519", form: str = "openssh") -> asyncssh.SSHKey:
    path.parent.mkdir(parents=True, exist_ok=True)
    key = asyncssh.generate_private_key(algorithm)
    path.write_bytes(key.export_private_key(form))
    path.chmod(0o600)
    return key


def load(path: Path, home: Path | None = None) -> ClientKeys:
    return load_client_keys(TunnelSettings(key_path=str(path)), home=home)


def refusal(path: Path) -> str:
    with pytest.raises(SettingsError) as error:
        load(path)
    assert error.value.exit_code == 2
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("tunnels.key_path (SSH_KEY_PATH): ")
    assert str(path) in text
    return text


@pytest.mark.parametrize(
    ("algorithm", "form"),
    [
        ("ssh-ed25519", "openssh"),
        ("ssh-ed25519", "pkcs8-pem"),
        ("ecdsa-sha2-nistp256", "openssh"),
        ("ecdsa-sha2-nistp384", "pkcs1-pem"),
        ("ssh-rsa", "pkcs1-pem"),
    ],
)
def test_usual_keys_are_read_and_their_repr_is_no_secret(tmp_path: Path, algorithm: str, form: str) -> None:
    path = tmp_path / "key"
    key = write_key(path, algorithm, form)
    [loaded] = load(path).keys
    assert loaded.fingerprint == key.get_fingerprint()
    assert loaded.public == " ".join(key.export_public_key().decode().split()[:2])
    assert repr(loaded) == (
        f"ClientKey(path={path!r}, fingerprint={loaded.fingerprint!r}, public={loaded.public!r}, comment='')"
    )


def test_every_usable_default_key_is_offered_in_openssh_order(tmp_path: Path) -> None:
    write_key(tmp_path / ".ssh" / "id_rsa", "ssh-rsa")
    write_key(tmp_path / ".ssh" / "id_ed25519")
    keys = load_client_keys(TunnelSettings(), home=tmp_path)
    assert [key.path for key in keys.keys] == [tmp_path / ".ssh" / "id_ed25519", tmp_path / ".ssh" / "id_rsa"]
    assert str(keys) == "~/.ssh/id_ed25519 or ~/.ssh/id_rsa"
    assert keys.attach_hint(TARGET) == 'vastai attach ssh 123 "$(ssh-keygen -y -f ~/.ssh/id_ed25519)"'
    (tmp_path / ".ssh" / "id_ed25519.pub").write_text(keys.keys[0].public)
    assert keys.attach_hint(TARGET) == 'vastai attach ssh 123 "$(cat ~/.ssh/id_ed25519.pub)"'


def test_default_keys_in_a_place_that_cannot_be_looked_at_say_so(tmp_path: Path) -> None:
    """A link that leads to itself stops even root."""
    (tmp_path / ".ssh").symlink_to(tmp_path / ".ssh")
    with pytest.raises(SettingsError, match=r"id_ed25519 cannot be read: Too many levels of symbolic links"):
        load_client_keys(TunnelSettings(), home=tmp_path)


def test_an_unusable_default_key_is_a_warning_while_another_one_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".ssh").mkdir()
    make_key(tmp_path / ".ssh" / "id_ed25519", passphrase="secret")
    write_key(tmp_path / ".ssh" / "id_ecdsa", "ecdsa-sha2-nistp256")
    [key] = load_client_keys(TunnelSettings(), home=tmp_path).keys
    assert key.path == tmp_path / ".ssh" / "id_ecdsa"
    assert "protected by a passphrase" in caplog.text


def test_only_unusable_default_keys_are_an_error_that_names_each(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    make_key(tmp_path / ".ssh" / "id_ed25519", passphrase="secret")
    (tmp_path / ".ssh" / "id_rsa").mkdir()
    with pytest.raises(SettingsError, match=r"id_ed25519 is protected.*; .*id_rsa is a directory"):
        load_client_keys(TunnelSettings(), home=tmp_path)


@pytest.mark.parametrize("has_home", [True, False])
def test_no_key_at_all_says_how_to_make_one(tmp_path: Path, has_home: bool) -> None:
    with pytest.raises(SettingsError, match=r"no SSH key found .*ssh-keygen -t ed25519"):
        load_client_keys(TunnelSettings(), home=tmp_path if has_home else None)


def test_a_tilde_means_home_and_odd_names_are_quoted(tmp_path: Path) -> None:
    write_key(tmp_path / "my keys" / "id")
    keys = load_client_keys(TunnelSettings(key_path="~/my keys/id"), home=tmp_path)
    assert keys.attach_hint(TARGET) == "vastai attach ssh 123 \"$(ssh-keygen -y -f ~/'my keys/id')\""
    assert str(load(tmp_path / "my keys" / "id")) == f"'{tmp_path}/my keys/id'"


def test_a_missing_key(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nothing")


def test_a_directory_and_a_pipe(tmp_path: Path) -> None:
    """The pipe has no writer; reading it would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    assert "is a directory" in refusal(tmp_path)
    assert "not a regular file" in refusal(tmp_path / "pipe")


def test_a_public_key_in_place_of_the_private_one(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    for form in ("openssh", "rfc4716", "pkcs8-pem"):
        path = tmp_path / "id.pub"
        path.write_bytes(key.export_public_key(form))
        path.chmod(0o600)
        assert f"is a public key; name the private key instead (perhaps {tmp_path / 'id'})" in refusal(path)


@pytest.mark.parametrize(("kind", "pem"), [("ed25519", False), ("rsa", True), ("ecdsa", True)])
def test_a_key_with_a_passphrase(tmp_path: Path, kind: str, pem: bool) -> None:
    make_key(tmp_path / "key", kind=kind, pem=pem, passphrase="hidden words")
    text = refusal(tmp_path / "key")
    assert "protected by a passphrase" in text
    assert "ssh-keygen -p" in text
    assert "hidden" not in text


def test_a_pkcs8_key_with_a_passphrase(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "key").write_bytes(key.export_private_key("pkcs8-pem", passphrase="hidden words"))
    (tmp_path / "key").chmod(0o600)
    assert "protected by a passphrase" in refusal(tmp_path / "key")


def test_a_key_that_others_can_read_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_key(path)
    path.chmod(0o644)
    assert refusal(path).endswith(f"(mode 0644) and is refused, as OpenSSH does; run: chmod 600 {path}")
    path.chmod(0o400)
    load(path)


async def test_the_keys_of_files_are_offered_as_they_are(tmp_path: Path) -> None:
    write_key(tmp_path / "key")
    keys = load(tmp_path / "key")
    async with keys.offer() as offer:
        assert offer.keys == [keys.keys[0].private]
        assert offer.trouble is None


def test_what_may_be_told_of_a_key(tmp_path: Path) -> None:
    make_key(tmp_path / "key", kind="ecdsa")
    [key] = load(tmp_path / "key").keys
    assert key.to_json() == {
        "name": str(tmp_path / "key"),
        "source": "file",
        "type": "ecdsa-sha2-nistp256",
        "bits": 256,
        "fingerprint": key.fingerprint,
        "comment": "test",
    }
    assert str(key) == str(tmp_path / "key")


def test_an_unsupported_kind_of_key(tmp_path: Path) -> None:
    write_key(tmp_path / "key", "ssh-ed448")
    assert "is a key of type ssh-ed448" in refusal(tmp_path / "key")


def test_a_file_that_is_far_too_large(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(bytes(100_000))
    (tmp_path / "key").chmod(0o600)
    assert "too large" in refusal(tmp_path / "key")


_HEADS = [b"", b"-----BEGIN OPENSSH PRIVATE KEY-----\n", b"-----BEGIN RSA PRIVATE KEY-----\n", b"\x30\x82"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(_HEADS), st.binary(max_size=200))
def test_garbage_is_always_refused_in_one_line(tmp_path: Path, head: bytes, rest: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(head + rest)
    path.chmod(0o600)
    refusal(path)


def test_keys_are_never_empty() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ClientKeys(())

"""Is there an SSH key, and does the account have it?"""

from pathlib import Path

import asyncssh
import pytest

from vastproxy.services.diagnosis import sshkeys
from vastproxy.services.diagnosis.check import Verdict
from vastproxy.services.tunnels.keyfile import KeyLocked, WrongPassphrase
from vastproxy.services.tunnels.keys import ClientKeys, load_client_keys
from vastproxy.settings import SettingsError
from vastproxy.settings.model import TunnelSettings
from vastproxy.vastai import SshKey, User, VastUnavailable

NOBODY = User(id=1)


@pytest.fixture
def keys(tmp_path: Path) -> ClientKeys:
    path = tmp_path / ".ssh" / "id_ed25519"
    path.parent.mkdir()
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(path))
    path.chmod(0o600)
    return load_client_keys(TunnelSettings(), home=tmp_path)


def other() -> str:
    return asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()


def test_a_key_is_told_with_its_fingerprint(keys: ClientKeys) -> None:
    check = sshkeys.key_check(keys)
    assert check.verdict is Verdict.OK
    assert keys.keys[0].fingerprint in check.detail
    assert "from a file" in check.detail


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (KeyLocked("~/x is protected", public=None), "ssh-add"),
        (WrongPassphrase("does not open", public=None), "KEY_PASSPHRASE"),
        (SettingsError("no SSH key found (…)"), "ssh-keygen -t ed25519"),
        (SettingsError("~/x can be read by others"), "SSH_KEY_PATH"),
    ],
)
def test_without_a_usable_key_the_settings_are_to_blame(error: SettingsError, fix: str) -> None:
    check = sshkeys.key_check(error)
    assert (check.verdict, check.exits) == (Verdict.FAIL, 2)
    assert fix in check.fix


def test_the_key_is_recognised_by_its_fingerprint_whatever_its_comment(keys: ClientKeys) -> None:
    known = (SshKey(1, other()), SshKey(2, f"{keys.keys[0].public} laptop of mine"))
    assert sshkeys.registered_check(keys, known, NOBODY, running=0).verdict is Verdict.OK


def test_older_accounts_have_their_key_in_the_profile(keys: ClientKeys) -> None:
    me = User(id=1, ssh_key=f"{other()}\n{keys.keys[0].public} me\n")
    assert sshkeys.registered_check(keys, (), me, running=0).verdict is Verdict.OK


def test_a_deleted_or_broken_key_is_none(keys: ClientKeys) -> None:
    gone = (SshKey(1, keys.keys[0].public, deleted_at="2026-08-01"), SshKey(2, "ssh-ed25519 AAAAbroken x"))
    assert sshkeys.fingerprints(gone) == frozenset()
    check = sshkeys.registered_check(keys, gone, NOBODY, running=0)
    assert check.verdict is Verdict.FAIL
    assert "no SSH key" in check.detail


def test_an_unknown_key_is_a_failure_unless_instances_run_that_tell_for_themselves(keys: ClientKeys) -> None:
    known = (SshKey(1, other()),)
    alone = sshkeys.registered_check(keys, known, NOBODY, running=0)
    assert alone.verdict is Verdict.FAIL
    assert 'vastai create ssh-key "$(ssh-keygen -y -f ~/.ssh/id_ed25519)"' in alone.fix
    beside = sshkeys.registered_check(keys, known, NOBODY, running=2)
    assert beside.verdict is Verdict.WARN
    assert "1 other SSH key" in beside.detail


def test_what_cannot_be_compared_is_skipped(keys: ClientKeys) -> None:
    unknown = sshkeys.registered_check(keys, VastUnavailable("down"), NOBODY, running=0)
    nothing = sshkeys.registered_check(SettingsError("none"), (), NOBODY, running=0)
    assert (unknown.verdict, nothing.verdict) == (Verdict.SKIP, Verdict.SKIP)

"""The client's SSH key: is there one that can be used, and does the account know it? Decides; pure."""

from collections.abc import Iterable, Sequence

from vastproxy.services.diagnosis.account import KEYS_PAGE
from vastproxy.services.diagnosis.check import Check, Verdict
from vastproxy.services.tunnels.keyfile import KeyLocked, WrongPassphrase
from vastproxy.services.tunnels.keys import ClientKey, ClientKeys
from vastproxy.services.tunnels.publickey import PublicKey, parse_line
from vastproxy.settings import SettingsError
from vastproxy.vastai import SshKey, User, VastError


def key_check(found: ClientKeys | SettingsError) -> Check:
    """Can a key be used?"""
    title = "SSH key"
    if isinstance(found, SettingsError):
        return Check("ssh_key", title, Verdict.FAIL, str(found), _fix_of(found), exits=2)
    by = "held by the ssh-agent" if found.agent_socket is not None else "from a file"
    told = "; ".join(f"{key.name} {parse_line(key.public)[0]}" for key in found.keys)
    return Check("ssh_key", title, Verdict.OK, f"{told}, {by}")


def registered_check(
    keys: ClientKeys | SettingsError,
    of_account: Iterable[SshKey] | VastError,
    user: User | VastError,
    *,
    running: int,
) -> Check:
    """Does the account have one of the keys, so that new instances and the relay let it in?

    `running`: how many instances run. They may have been given the key one by one, and tell for themselves.
    """
    title = "key registered"
    if isinstance(keys, SettingsError):
        return Check("ssh_key_registered", title, Verdict.SKIP, "there is no key to look for")
    if isinstance(of_account, VastError):
        detail = "not known: the account's SSH keys could not be read"
        return Check("ssh_key_registered", title, Verdict.SKIP, detail)
    known = fingerprints(of_account, user.ssh_key if isinstance(user, User) else "")
    for key in keys.keys:
        if key.fingerprint in known:
            return Check(
                "ssh_key_registered", title, Verdict.OK, f"the account has {key.name} ({key.fingerprint})"
            )
    count = len(known)
    detail = (
        f"the account has {'no SSH key' if not count else f'{count} other SSH key' + 's' * (count > 1)}, "
        f"and not {' or '.join(f'{key.name} ({key.fingerprint})' for key in keys.keys)}"
    )
    fix = (
        f"`{register_command(keys.keys[0])}`, or paste the public half at {KEYS_PAGE}; it reaches new instances"
        + (", for those that run: `vastai attach ssh ID …` as their lines say" if running else " alone")
    )
    return Check("ssh_key_registered", title, Verdict.WARN if running else Verdict.FAIL, detail, fix)


def fingerprints(keys: Iterable[SshKey], profile: str = "") -> frozenset[str]:
    """Of all public keys of the account that can be read: those in its list that were not deleted, and the lines of
    the field `ssh_key` of the user, where older accounts have theirs."""
    lines = [one.public_key for one in keys if one.deleted_at is None]
    found = (_public(line) for line in (*lines, *profile.splitlines()))
    return frozenset(key.fingerprint for key in found if key is not None)


def register_command(key: ClientKey) -> str:
    """The official CLI's command that adds the key to the account (vastai 1.9)."""
    return f'vastai create ssh-key "$({key.show_public})"'


def _public(line: str) -> PublicKey | None:
    try:
        return parse_line(line)[0]
    except ValueError:
        return None


def _fix_of(error: SettingsError) -> str:
    match error:
        case WrongPassphrase():
            return "check VASTPROXY_TUNNELS__KEY_PASSPHRASE, or unset it and be asked"
        case KeyLocked():
            return "`ssh-add` hands it to an agent; or set VASTPROXY_TUNNELS__KEY_PASSPHRASE"
    if "no SSH key found" in str(error):
        return "`ssh-keygen -t ed25519` makes one; then put it into the account (docs/SETUP.md, step 3)"
    return "make that key usable as the message says, or name another one with SSH_KEY_PATH"


def names(keys: Sequence[ClientKey]) -> str:
    """The keys for people."""
    return " or ".join(key.name for key in keys)

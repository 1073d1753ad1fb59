"""What a login does about a host key, and what a person reads."""

import asyncio
from pathlib import Path as FilePath

import asyncssh
import pytest

from vastproxy.services.tunnels.base import Path, SshAddress, TunnelTarget
from vastproxy.services.tunnels.hostcheck import (
    HostKeyCheck,
    HostKeyRefused,
    ListedHostKeys,
    PinnedHostKeys,
    changed_text,
    first_sight,
    unlisted_text,
    when,
)
from vastproxy.services.tunnels.hostkeys import HostKeyPins
from vastproxy.services.tunnels.known_hosts import KnownHostsFile
from vastproxy.services.tunnels.pins import Pin, Sibling
from vastproxy.services.tunnels.publickey import parse_blob, shown

DIRECT = SshAddress("192.0.2.7", 41022, Path.DIRECT)
RELAY = SshAddress("ssh5.vast.ai", 11022, Path.RELAY)
TARGET = TunnelTarget(7, "7@1700000000", (DIRECT, RELAY))


def make(kind: str = "ssh-ed25519") -> str:
    return parse_blob(asyncssh.generate_private_key(kind).public_data).line


A, B, R = make(), make(), make("ssh-rsa")


async def present(check: HostKeyCheck, key: str) -> HostKeyRefused | None:
    """What an SSH library does: asks, and goes on or fails."""
    if not check.accepts(key):
        return await check.refusal()
    await check.confirm()
    return await check.refusal()


async def seen(pins: HostKeyPins, key: str, address: SshAddress = DIRECT) -> HostKeyRefused | None:
    return await present(await PinnedHostKeys(pins).begin(TARGET, address), key)


def at(seconds: float) -> HostKeyPins:
    return HostKeyPins(None, clock=lambda: seconds)


async def test_the_first_key_is_pinned_and_asked_for_and_another_one_refused_and_remembered() -> None:
    pins = at(1_767_225_600)
    assert (await PinnedHostKeys(pins).begin(TARGET, DIRECT)).kinds == ()
    assert await seen(pins, R) is None
    assert await seen(pins, R) is None
    assert (await PinnedHostKeys(pins).begin(TARGET, DIRECT)).kinds == ("ssh-rsa",)
    refusal = await seen(pins, B)
    assert refusal is not None
    assert (refusal.path, refusal.presented, refusal.transient) == (Path.DIRECT, B, False)
    assert str(refusal) == (
        f"HOST KEY CHANGED: instance 7 (direct 192.0.2.7:41022) presented {shown(B)}, but {shown(R)} is pinned for "
        "its direct path since 2026-01-01 00:00 UTC. Somebody may be between you and the instance, so no login was "
        "tried. If you know why it changed, as when its container was recreated, accept the new key with: "
        "vastproxy trust 7"
    )
    [change] = pins.changes(7)
    assert (change.refused.key, change.refused.address) == (B, "192.0.2.7:41022")
    assert await pins.accept(change)
    assert await seen(pins, B) is None


async def test_a_login_that_fails_for_another_reason_has_no_refusal() -> None:
    check = await PinnedHostKeys(at(0)).begin(TARGET, DIRECT)
    assert await check.refusal() is None
    assert check.accepts(A)
    assert await check.refusal() is None


async def test_a_change_on_one_path_alone_is_told_as_such() -> None:
    pins = at(0)
    await seen(pins, A)
    await seen(pins, A, RELAY)
    refusal = await seen(pins, B, RELAY)
    assert (
        "So far only this path has changed: its direct path had the same key and has shown no other."
        in str(refusal)
    )
    assert await seen(pins, A) is None, "the direct path goes on"
    assert "Its relay path shows the same new key." in str(await seen(pins, B))


async def test_a_relay_that_ends_ssh_itself_has_a_pin_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    pins = at(0)
    assert await seen(pins, A) is None
    assert await seen(pins, B, RELAY) is None
    assert caplog.messages == [
        f"instance 7 (direct 192.0.2.7:41022): host key {shown(A)} pinned at first sight",
        f"instance 7 (relay ssh5.vast.ai:11022): host key {shown(B)} pinned at first sight; "
        "its direct path has another one, so each is pinned for itself",
    ]
    assert await seen(pins, A) is None
    assert "Its" not in str(await seen(pins, R)), "the relay's key says nothing about the instance's"
    assert "The new key is the one pinned for its relay path." in str(await seen(pins, B))


async def test_a_key_that_another_process_pinned_meanwhile_counts(tmp_path: FilePath) -> None:
    file = tmp_path / "host_keys.json"
    check = await PinnedHostKeys(HostKeyPins(file)).begin(TARGET, DIRECT)
    assert check.accepts(A)
    await HostKeyPins(file).trust(TARGET.identity, Path.DIRECT, B)
    with pytest.raises(HostKeyRefused, match="HOST KEY CHANGED"):
        await check.confirm()


async def test_a_refused_key_stays_refused_when_its_pin_goes_meanwhile() -> None:
    """Another login or the API may drop the pin between the key's refusal and its report."""
    pins = at(1_767_225_600)
    await seen(pins, A)
    check = await PinnedHostKeys(pins).begin(TARGET, DIRECT)
    assert not check.accepts(B)
    await pins.recycled("7@1800000000")
    assert shown(A) in str(await check.refusal())


async def listed(tmp_path: FilePath, text: str) -> ListedHostKeys:
    path = tmp_path / "known hosts"
    path.write_text(text)
    return ListedHostKeys(await asyncio.to_thread(KnownHostsFile, path))


async def test_in_strict_mode_a_listed_key_is_accepted_and_asked_for(tmp_path: FilePath) -> None:
    rules = await listed(tmp_path, f"[192.0.2.7]:41022 {R}\n")
    check = await rules.begin(TARGET, DIRECT)
    assert check.kinds == ("ssh-rsa",)
    assert await present(check, R) is None


async def test_in_strict_mode_nothing_else_is_accepted_and_the_remedy_is_told(tmp_path: FilePath) -> None:
    rules = await listed(tmp_path, f"[192.0.2.7]:41022 {A}\n@revoked * {R}\n")
    path = tmp_path / "known hosts"
    refusal = await present(await rules.begin(TARGET, DIRECT), B)
    assert str(refusal) == (
        f"HOST KEY CHANGED: instance 7 (direct 192.0.2.7:41022) presented {shown(B)}, but {path} lists {shown(A)} for "
        "[192.0.2.7]:41022. Somebody may be between you and the instance, so no login was tried. If you know why it "
        "changed, put the new key (`ssh-keyscan -p 41022 192.0.2.7`) in place of the old one there"
    )
    unlisted = str(await present(await rules.begin(TARGET, RELAY), B))
    assert unlisted.startswith(
        f"HOST KEY NOT LISTED: instance 7 (relay ssh5.vast.ai:11022) presented {shown(B)}, and {path} lists no key"
    )
    assert unlisted.endswith(f"add it with: ssh-keyscan -p 11022 ssh5.vast.ai >> '{path}'")
    revoked = str(await present(await rules.begin(TARGET, DIRECT), R))
    assert revoked.startswith("HOST KEY REVOKED: ")
    assert "\n" not in unlisted + revoked


def test_a_host_name_from_elsewhere_is_no_command(tmp_path: FilePath) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"host {A}\n")
    odd = SshAddress("x;reboot", 22, Path.RELAY)
    assert "ssh-keyscan -p 22 'x;reboot'" in unlisted_text("instance 7", KnownHostsFile(path), odd, B)


@pytest.mark.parametrize("sibling", Sibling)
def test_every_case_has_a_text_of_one_line(sibling: Sibling) -> None:
    text = changed_text("instance 7", 7, Path.RELAY, Pin("edited by hand", 10**30), B, sibling)
    assert "edited by hand is pinned for its relay path since an unknown time." in text
    assert "\n" not in text + first_sight(Path.RELAY, sibling)
    assert "  " not in text


def test_times() -> None:
    assert when(0) == "1970-01-01 00:00 UTC"

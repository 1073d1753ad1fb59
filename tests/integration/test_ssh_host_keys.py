"""Host keys against OpenSSH: pinned at first sight, changed and trusted, listed in known_hosts."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path as FilePath

import pytest

from tests.helpers.ssh_agent import output
from tests.helpers.ssh_login import answers, keys_of
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import direct, relay
from vastproxy.services.tunnels.hostcheck import HostKeyRefused, ListedHostKeys, PinnedHostKeys
from vastproxy.services.tunnels.hostkeys import HostKeyPins
from vastproxy.services.tunnels.known_hosts import KnownHostsFile
from vastproxy.services.tunnels.publickey import parse_line


@pytest.fixture
def sshd(tmp_path: FilePath) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd") as running:
        yield running


def trust_in_another_process(home: FilePath, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys, typer; from vastproxy.cli.trust import trust; typer.run(trust)"
    env = {**os.environ, "HOME": str(home)}
    env.pop("XDG_STATE_HOME", None)
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=env,
        cwd=home,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
    )


async def recreate(sshd: Sshd) -> None:
    """As when the container is recreated: same address, new host key."""
    await asyncio.to_thread(sshd.stop)
    sshd.new_host_key()
    await asyncio.to_thread(sshd.start)


async def test_a_changed_host_key_is_refused_then_trusted_then_accepted(
    sshd: Sshd, tmp_path: FilePath
) -> None:
    """The decision is made in another process, as by the command line, while this one goes on."""
    home = tmp_path / "home"
    file = home / ".local" / "state" / "vastproxy" / "host_keys.json"
    rules = PinnedHostKeys(HostKeyPins(file))
    keys = keys_of(sshd.client_key_path)
    assert await answers(sshd, keys, rules) == "in"
    old = parse_line(sshd.host_key)[0]
    await recreate(sshd)
    new = parse_line(sshd.host_key)[0]
    for _ in range(2):
        with pytest.raises(HostKeyRefused, match=r"^HOST KEY CHANGED: .*vastproxy trust 7$") as refusal:
            await answers(sshd, keys, rules)
        assert old.fingerprint in str(refusal.value)
        assert new.fingerprint in str(refusal.value)
    asked = await asyncio.to_thread(trust_in_another_process, home, "7")
    assert asked.returncode == 1, "nobody said yes"
    with pytest.raises(HostKeyRefused):
        await answers(sshd, keys, rules)
    trusted = await asyncio.to_thread(trust_in_another_process, home, "7", "--yes")
    assert trusted.returncode == 0, trusted.stderr
    assert old.fingerprint in trusted.stdout
    assert new.fingerprint in trusted.stdout
    assert await answers(sshd, keys, rules) == "in"


async def test_both_paths_show_one_key_or_each_its_own(sshd: Sshd, tmp_path: FilePath) -> None:
    """The same sshd on both paths, then a relay that ends SSH with a key of its own."""
    rules = PinnedHostKeys(HostKeyPins(None))
    keys = keys_of(sshd.client_key_path)
    for address in (direct(sshd.port), relay(sshd.port)):
        assert await answers(sshd, keys, rules, address=address) == "in"
    with Sshd(tmp_path / "between") as between:
        between.authorize(sshd.client_key_path)
        with pytest.raises(HostKeyRefused, match=r"relay path since .* So far only this path has changed"):
            await answers(between, keys, rules, address=relay(between.port))
        assert await answers(sshd, keys, rules) == "in"
        fresh = PinnedHostKeys(HostKeyPins(None))
        assert await answers(sshd, keys, fresh) == "in"
        assert await answers(between, keys, fresh, address=relay(between.port)) == "in"
        with pytest.raises(HostKeyRefused, match="HOST KEY CHANGED"):
            await answers(sshd, keys, fresh, address=relay(sshd.port))


def scanned(sshd: Sshd) -> str:
    return output("ssh-keyscan", "-t", "ed25519", "-p", str(sshd.port), "127.0.0.1")


async def test_strict_mode_accepts_what_ssh_keyscan_writes_and_refuses_the_rest(
    sshd: Sshd, tmp_path: FilePath
) -> None:
    """Also with hashed names; what is added, replaced or revoked counts at once."""
    known = tmp_path / "known_hosts"
    known.write_text(await asyncio.to_thread(scanned, sshd))
    output("ssh-keygen", "-Hf", str(known))
    rules = ListedHostKeys(await asyncio.to_thread(KnownHostsFile, known))
    keys = keys_of(sshd.client_key_path)
    assert await answers(sshd, keys, rules) == "in"
    await recreate(sshd)
    with pytest.raises(HostKeyRefused, match=r"HOST KEY CHANGED: .* but .*known_hosts lists ssh-ed25519"):
        await answers(sshd, keys, rules)
    with Sshd(tmp_path / "other") as other, pytest.raises(HostKeyRefused, match="HOST KEY NOT LISTED"):
        await answers(other, keys, rules)
    known.write_text(await asyncio.to_thread(scanned, sshd))
    assert await answers(sshd, keys, rules) == "in"
    with known.open("a") as file:
        file.write(f"@revoked * {sshd.host_key}\n")
    with pytest.raises(HostKeyRefused, match="HOST KEY REVOKED"):
        await answers(sshd, keys, rules)

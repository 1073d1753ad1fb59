"""What it means when a way into an instance is open or shut."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path as FilePath
from typing import Any

import asyncssh
import pytest

from tests.helpers.builders import ROW, make_instance
from tests.helpers.plain import PlainEngine, PlainTunnel
from tests.helpers.tunnelling import keys_of, unused_port
from vastproxy.services.diagnosis.check import Check, Verdict
from vastproxy.services.diagnosis.hostkeys import SeenHostKeys, Shown
from vastproxy.services.diagnosis.ways import NEW_S, Tried, host_key_check, try_way, way_checks
from vastproxy.services.errors import KeyRefused, KeyUnavailable, TunnelError, TunnelLost
from vastproxy.services.tunnels.addresses import target_of
from vastproxy.services.tunnels.base import Path, SshAddress, TunnelTarget
from vastproxy.services.tunnels.hostcheck import HostKeyRefused
from vastproxy.services.tunnels.keys import ClientKeys
from vastproxy.services.tunnels.pins import Pin
from vastproxy.services.tunnels.pins import Verdict as KeyVerdict

LATER = ROW["start_date"] + NEW_S + 1
DIRECT, RELAY = Path.DIRECT, Path.RELAY
INSTANCE = make_instance()


@pytest.fixture
def keys(tmp_path: FilePath) -> ClientKeys:
    path = tmp_path / "id_ed25519"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(path))
    path.chmod(0o600)
    return keys_of(path)


def opened(path: Path) -> Tried:
    at = next(one for one in target_of(INSTANCE).addresses if one.path is path)
    return Tried(path, PlainTunnel(PlainEngine(), INSTANCE.id, at), tcp_s=0.02, login_s=0.3)


def shut(path: Path, error: TunnelError, *, tcp_s: float | None = None) -> Tried:
    return Tried(path, error=error, tcp_s=tcp_s)


def checks(*tried: Tried, keys: ClientKeys, now: float = LATER, **over: Any) -> list[Check]:
    return list(way_checks({one.path: one for one in tried}, make_instance(**over), keys, now=now))


def verdicts(found: list[Check]) -> list[tuple[str, Verdict]]:
    return [(check.id, check.verdict) for check in found]


async def test_both_open(keys: ClientKeys) -> None:
    found = checks(opened(DIRECT), opened(RELAY), keys=keys)
    assert verdicts(found) == [("direct_path", Verdict.OK), ("relay_path", Verdict.OK)]
    assert found[0].detail == "203.0.113.7:41022, TCP 20 ms, logged in after 300 ms"


async def test_one_that_is_shut_is_a_warning_while_the_other_one_is_open(keys: ClientKeys) -> None:
    lost = TunnelLost("no answer")
    relay_only = checks(shut(DIRECT, lost), opened(RELAY), keys=keys)
    assert verdicts(relay_only) == [("direct_path", Verdict.WARN), ("relay_path", Verdict.OK)]
    assert "requests take the relay" in relay_only[0].fix
    direct_only = checks(opened(DIRECT), shut(RELAY, lost, tcp_s=0.01), keys=keys)
    assert verdicts(direct_only) == [("direct_path", Verdict.OK), ("relay_path", Verdict.WARN)]
    assert direct_only[1].detail == "TCP 10 ms, but no answer"


async def test_both_shut_is_a_failure_that_says_what_to_do(keys: ClientKeys) -> None:
    found = checks(
        shut(DIRECT, KeyRefused("long text"), tcp_s=0.02), shut(RELAY, TunnelLost("gone")), keys=keys
    )
    assert verdicts(found) == [("direct_path", Verdict.FAIL), ("relay_path", Verdict.FAIL)]
    assert "does not accept the key" in found[0].detail
    assert 'vastai attach ssh 48001001 "$(' in found[0].fix
    assert "reboot" in found[1].fix


async def test_a_new_instance_is_given_its_time(keys: ClientKeys) -> None:
    young = ROW["start_date"] + NEW_S - 1
    found = checks(shut(DIRECT, KeyRefused("no")), shut(RELAY, KeyRefused("no")), keys=keys, now=young)
    assert {check.verdict for check in found} == {Verdict.WARN}
    assert all("three minutes" in check.fix for check in found)
    assert "keys of the account only" in found[1].fix


async def test_an_agent_that_is_silent_is_named(keys: ClientKeys) -> None:
    silent = KeyUnavailable("was not shown a key")
    (check,) = checks(shut(DIRECT, silent), keys=keys)
    assert "ssh-add -l" in check.fix


async def test_a_changed_host_key_is_a_failure_even_if_the_other_way_is_open(keys: ClientKeys) -> None:
    changed = HostKeyRefused("HOST KEY CHANGED", path=DIRECT, presented="ssh-ed25519 AAAA")
    found = checks(shut(DIRECT, changed), opened(RELAY), keys=keys)
    assert verdicts(found) == [("direct_path", Verdict.FAIL), ("relay_path", Verdict.OK)]


async def test_no_address(keys: ClientKeys) -> None:
    relay_only = checks(Tried(DIRECT), opened(RELAY), keys=keys, ports=None)
    assert verdicts(relay_only) == [("direct_path", Verdict.WARN), ("relay_path", Verdict.OK)]
    assert "direct_port_count" in relay_only[0].fix
    direct_only = checks(opened(DIRECT), Tried(RELAY), keys=keys, ssh_host=None)
    assert verdicts(direct_only) == [("direct_path", Verdict.OK), ("relay_path", Verdict.WARN)]
    nothing = checks(Tried(DIRECT), Tried(RELAY), keys=keys, ports=None, ssh_host=None)
    assert {check.verdict for check in nothing} == {Verdict.FAIL}


# ── trying ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def listener() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def target(*addresses: SshAddress) -> TunnelTarget:
    return TunnelTarget(7, "7@1", addresses)


async def test_an_open_way_brings_a_tunnel_and_its_times(listener: int) -> None:
    tried = await try_way(PlainEngine(), target(SshAddress("127.0.0.1", listener, DIRECT)), DIRECT)
    assert tried.tunnel is not None
    assert tried.error is None
    assert (tried.tcp_s or -1) >= 0 <= (tried.login_s or -1)
    await tried.tunnel.close()


async def test_of_the_relays_two_ports_the_one_that_is_there_is_taken(listener: int) -> None:
    addresses = (
        SshAddress("127.0.0.1", await unused_port(), RELAY),
        SshAddress("127.0.0.1", listener, RELAY),
    )
    tried = await try_way(PlainEngine(), target(*addresses), RELAY)
    assert tried.tunnel is not None
    assert tried.tunnel.address == addresses[1]
    await tried.tunnel.close()


async def test_a_closed_port_and_an_sshd_that_fails_are_told_apart(listener: int) -> None:
    engine = PlainEngine()
    engine.unreachable.add(7)
    closed = await try_way(engine, target(SshAddress("127.0.0.1", await unused_port(), DIRECT)), DIRECT)
    assert closed.tcp_s is None
    assert "refuses connections" in str(closed.error)
    fails = await try_way(engine, target(SshAddress("127.0.0.1", listener, DIRECT)), DIRECT)
    assert fails.tcp_s is not None
    assert isinstance(fails.error, TunnelLost)


async def test_silence_and_names_that_do_not_exist_are_bounded_and_told() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        crowd = [socket.socket() for _ in range(3)]
        for one in crowd:  # as many as its queue takes: who comes next hears nothing
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        tried = await try_way(
            PlainEngine(), target(SshAddress("127.0.0.1", port, DIRECT)), DIRECT, tcp_limit_s=0.1
        )
        for one in crowd:
            one.close()
    assert "does not answer within 0.1 s" in str(tried.error)
    unheard_of = ".".join(5 * ["x" * 60])  # longer than a name may be, so that no name server is asked
    nowhere = await try_way(PlainEngine(), target(SshAddress(unheard_of, 22, DIRECT)), DIRECT)
    assert "cannot be reached" in str(nowhere.error)


async def test_without_an_address_nothing_is_tried() -> None:
    assert await try_way(PlainEngine(), target(), RELAY) == Tried(RELAY)


# ── host keys ──────────────────────────────────────────────────────────────────────────────────

OLD, NEW = "ssh-ed25519 AAAAold", "ssh-ed25519 AAAAnew"


def rules(*seen: tuple[Path, Shown], trouble: str = "") -> SeenHostKeys:
    at = {one.path: one for one in reversed(target_of(INSTANCE).addresses)}
    return SeenHostKeys(None, {(INSTANCE.identity, at[path]): shown for path, shown in seen}, trouble=trouble)


async def test_host_keys_that_agree_are_told_once() -> None:
    seen = Shown(OLD, KeyVerdict.SAME, Pin(OLD, 1_700_000_000))
    tried = {DIRECT: opened(DIRECT), RELAY: opened(RELAY)}
    check = host_key_check(INSTANCE, rules((DIRECT, seen), (RELAY, seen)), tried)
    assert check is not None
    assert check.verdict is Verdict.OK
    assert check.detail.endswith("as pinned since 2023-11-14 22:13 UTC (direct and relay)")


async def test_a_first_sight_is_fine_and_said() -> None:
    seen = Shown(OLD, KeyVerdict.NEW, None)
    check = host_key_check(INSTANCE, rules((DIRECT, seen)), {DIRECT: opened(DIRECT)})
    assert check is not None
    assert "not seen before" in check.detail


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_changed_key_says_how_to_trust_it(is_known: bool) -> None:
    seen = Shown(NEW, KeyVerdict.CHANGED, Pin(OLD, 1), can_be_trusted=is_known)
    changed = HostKeyRefused("HOST KEY CHANGED: …", path=DIRECT, presented=NEW)
    check = host_key_check(INSTANCE, rules((DIRECT, seen)), {DIRECT: shut(DIRECT, changed)})
    assert check is not None
    assert check.verdict is Verdict.FAIL
    assert "vastproxy trust 48001001" in check.fix
    assert ("once a running" in check.fix) is not is_known


async def test_pins_that_cannot_be_read_are_a_warning_and_nobody_seen_is_nothing() -> None:
    seen = Shown(NEW, KeyVerdict.NEW, None)
    check = host_key_check(INSTANCE, rules((DIRECT, seen), trouble="unreadable"), {DIRECT: opened(DIRECT)})
    assert check is not None
    assert check.verdict is Verdict.WARN
    assert host_key_check(INSTANCE, rules(), {DIRECT: shut(DIRECT, TunnelLost("x"))}) is None


async def test_listed_keys() -> None:
    """With a known_hosts file the refusal says all."""
    refused = HostKeyRefused("HOST KEY NOT LISTED", path=DIRECT, presented=NEW)
    check = host_key_check(INSTANCE, object(), {DIRECT: shut(DIRECT, refused)})
    assert check is not None
    assert (check.verdict, check.detail) == (Verdict.FAIL, "HOST KEY NOT LISTED")
    fine = host_key_check(INSTANCE, object(), {DIRECT: opened(DIRECT)})
    assert fine is not None
    assert fine.verdict is Verdict.OK
    assert host_key_check(INSTANCE, object(), {DIRECT: Tried(DIRECT)}) is None

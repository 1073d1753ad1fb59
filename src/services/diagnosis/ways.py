"""The two ways into an instance, direct and over vast.ai's relay: tries each for itself, and says what it means.

Each is tried in two steps, so that a firewall is told from an sshd that does not answer: TCP alone, then a login.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from vastproxy.services.diagnosis.check import Check, Verdict
from vastproxy.services.diagnosis.hostkeys import SeenHostKeys, Shown
from vastproxy.services.diagnosis.sshkeys import names
from vastproxy.services.errors import KeyRefused, KeyUnavailable, TunnelError, TunnelLost
from vastproxy.services.tunnels.addresses import target_of
from vastproxy.services.tunnels.base import Path, SshAddress, Tunnel, TunnelEngine, TunnelTarget
from vastproxy.services.tunnels.dial import dial
from vastproxy.services.tunnels.hostcheck import HostKeyRefused, when
from vastproxy.services.tunnels.keys import ClientKeys
from vastproxy.services.tunnels.publickey import shown
from vastproxy.vastai import Instance

#: How long a TCP connection may take: to the other side of the world it takes 0.3 s.
TCP_LIMIT_S = 5.0
#: A new instance may take so long until its sshd is up and knows our key (vast.ai documentation, 2026-08).
NEW_S = 180.0
_TITLES = {Path.DIRECT: "direct path", Path.RELAY: "relay path"}


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of trying one way. `tunnel` is there when somebody let us in, else `error`, unless there is no address
    on this path. Times in seconds."""

    path: Path
    tunnel: Tunnel | None = None
    error: TunnelError | None = None
    tcp_s: float | None = None
    login_s: float | None = None


async def try_way(
    engine: TunnelEngine, target: TunnelTarget, path: Path, *, tcp_limit_s: float = TCP_LIMIT_S
) -> Tried:
    """Go one way. The caller closes the tunnel."""
    addresses = target.on(path)
    if not addresses:
        return Tried(path)
    clock = asyncio.get_running_loop().time
    found = await asyncio.gather(*(_reaches(address, tcp_limit_s) for address in addresses))
    tcp_s = min((took for took in found if isinstance(took, float)), default=None)
    if tcp_s is None:
        reasons = dict.fromkeys(str(why) for why in found)
        return Tried(path, error=TunnelLost("; ".join(reasons)))
    open_ones = tuple(at for at, took in zip(addresses, found, strict=True) if isinstance(took, float))
    begun = clock()
    try:
        tunnel = await dial(engine, TunnelTarget(target.instance_id, target.identity, open_ones))
    except TunnelError as error:
        return Tried(path, error=error, tcp_s=tcp_s)
    return Tried(path, tunnel=tunnel, tcp_s=tcp_s, login_s=clock() - begun)


async def _reaches(address: SshAddress, limit_s: float) -> float | str:
    """How long a TCP connection took, or why there is none."""
    clock = asyncio.get_running_loop().time
    begun, who = clock(), f"{address.host}:{address.port}"
    try:
        async with asyncio.timeout(limit_s):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except TimeoutError:
        return f"{who} does not answer within {limit_s:g} s: a firewall, or its machine is off"
    except OSError as error:
        if isinstance(error, ConnectionRefusedError):
            return f"{who} refuses connections: sshd is not up yet, or the address has changed"
        return f"{who} cannot be reached: {error.strerror or error}"
    took_s = clock() - begun
    writer.transport.abort()
    return took_s


def way_checks(
    tried: Mapping[Path, Tried], instance: Instance, keys: ClientKeys, *, now: float
) -> tuple[Check, ...]:
    """Both ways as two checks. One that is shut is a warning where the other one is open. `now` in Unix seconds."""
    is_open = {path: one.tunnel is not None for path, one in tried.items()}
    is_new = instance.start_date is not None and now - instance.start_date < NEW_S
    return tuple(
        _way(one, instance, keys, any(is_open[other] for other in tried if other is not path), is_new)
        for path, one in tried.items()
    )


def _way(tried: Tried, instance: Instance, keys: ClientKeys, other_open: bool, is_new: bool) -> Check:
    id, title = f"{tried.path}_path", _TITLES[tried.path]
    if tried.tunnel is not None:
        at = tried.tunnel.address
        detail = f"{at.host}:{at.port}, TCP {_ms(tried.tcp_s)}, logged in after {_ms(tried.login_s)}"
        return Check(id, title, Verdict.OK, detail, instance=instance.id)
    if tried.error is None:
        return _no_address(id, title, tried.path, instance, other_open)
    verdict = Verdict.WARN if other_open or is_new else Verdict.FAIL
    fix = _fix_of(tried.error, tried.path, instance, keys, other_open=other_open)
    detail = _detail(tried, keys)
    if isinstance(tried.error, HostKeyRefused):
        return Check(id, title, Verdict.FAIL, "no login was tried: see its host key", fix, instance.id)
    if is_new and not other_open:
        fix = f"it has just started, and may need three minutes: ask again. Then: {fix}"
    return Check(id, title, verdict, detail, fix, instance.id)


def _no_address(id: str, title: str, path: Path, instance: Instance, other_open: bool) -> Check:
    if path is Path.RELAY:
        verdict = Verdict.WARN
        detail, fix = "vast.ai names no relay for it", "nothing; requests have the direct path alone"
    else:
        verdict = Verdict.WARN
        detail = "it has no direct address: all goes over vast.ai's relay, which is slow"
        fix = "next time rent with `--direct` on a machine with `direct_port_count>=1`"
    if not other_open and not instance.relay_ssh and instance.direct_ssh is None:
        verdict, detail = Verdict.FAIL, "it has no SSH address (yet)"
        fix = "wait a minute after the start; rent with launch mode ssh or jupyter"
    return Check(id, title, verdict, detail, fix, instance.id)


def _detail(tried: Tried, keys: ClientKeys) -> str:
    reached = f"TCP {_ms(tried.tcp_s)}, but " if tried.tcp_s is not None else ""
    if isinstance(tried.error, KeyRefused):
        return f"{reached}its sshd does not accept the key {names(keys.keys)}"
    return f"{reached}{tried.error}"


def _fix_of(error: TunnelError, path: Path, instance: Instance, keys: ClientKeys, *, other_open: bool) -> str:
    target, instance_id = target_of(instance), instance.id
    if isinstance(error, KeyRefused):
        also = "; the relay knows keys of the account only" if path is Path.RELAY else ""
        return f"`{keys.attach_hint(target)}`, and wait a minute{also}"
    if isinstance(error, HostKeyRefused):
        return "do what the line of the host key says"
    if isinstance(error, KeyUnavailable):
        return "`ssh-add -l` shows what the agent holds; add the key again with `ssh-add`"
    if other_open:
        other = "the direct path" if path is Path.RELAY else "the relay, which is slower"
        return (
            f"nothing at once: requests take {other}; if it stays so, `vastai reboot instance {instance_id}`"
        )
    return (
        "wait a minute if it has just started; may this machine make outgoing connections to that port? "
        f"Else `vastproxy logs {instance_id}`, and `vastai reboot instance {instance_id}`"
    )


def host_key_check(instance: Instance, rules: object, tried: Mapping[Path, Tried]) -> Check | None:
    """What was presented, against what is pinned; None where nobody presented a key."""
    id, title = "host_key", "host key"
    refused = next((one.error for one in tried.values() if isinstance(one.error, HostKeyRefused)), None)
    if not isinstance(rules, SeenHostKeys):  # a known_hosts file decides, and its refusals say all
        if refused is not None:
            fix = "compare it with the instance's own, and put it into that file as the message says"
            return Check(id, title, Verdict.FAIL, str(refused), fix, instance.id)
        ok = any(one.tunnel is not None for one in tried.values())
        return Check(id, title, Verdict.OK, "as listed", instance=instance.id) if ok else None
    if refused is not None:
        known = any(one.key == refused.presented and one.can_be_trusted for one in rules.shown.values())
        return Check(id, title, Verdict.FAIL, str(refused), _trust_fix(instance.id, known), instance.id)
    tunnels = [one.tunnel for one in tried.values() if one.tunnel is not None]
    seen = {one.address.path: rules.shown.get((instance.identity, one.address)) for one in tunnels}
    standings: dict[str, list[str]] = {}
    for path, one in seen.items():
        if one is not None:
            standings.setdefault(_standing(one), []).append(path)
    told = [f"{standing} ({' and '.join(paths)})" for standing, paths in standings.items()]
    if not told:
        return None
    if rules.trouble:
        fix = "make that file yours and readable, or set tunnels.state_dir"
        return Check(id, title, Verdict.WARN, f"pins are not known: {rules.trouble}", fix, instance.id)
    return Check(id, title, Verdict.OK, "; ".join(told), instance=instance.id)


def _standing(one: Shown) -> str:
    if one.pin is None:
        return f"{shown(one.key)}, not seen before; `serve` pins it"
    return f"{shown(one.key)}, as pinned since {when(one.pin.since)}"


def _trust_fix(instance_id: int, is_known: bool) -> str:
    how = f"`vastproxy trust {instance_id}`"
    if not is_known:
        how += " (once a running `vastproxy serve` has met the new key)"
    return f"if you know why it changed, as when the container was recreated: {how}. If not, do not use it"


def _ms(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds * 1000:.0f} ms"

"""Where an instance's sshd may answer, in the order in which to try. Pure."""

from vastproxy.services.tunnels.base import Path, SshAddress, TunnelTarget
from vastproxy.vastai import Instance


def addresses_of(instance: Instance) -> tuple[SshAddress, ...]:
    """The direct address first, then the relay's: direct is faster by far (vast.ai docs, 2026-08).

    Empty while nothing is mapped yet, and for images whose entrypoint starts no sshd.
    """
    direct = instance.direct_ssh
    found = [] if direct is None else [SshAddress(*direct, Path.DIRECT)]
    found += [SshAddress(host, port, Path.RELAY) for host, port in instance.relay_ssh]
    return tuple(dict.fromkeys(found))


def target_of(instance: Instance) -> TunnelTarget:
    """Whom to connect to for this instance."""
    return TunnelTarget(instance_id=instance.id, identity=instance.identity, addresses=addresses_of(instance))

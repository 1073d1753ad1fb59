"""From an instance to the places where its sshd may answer."""

from types import MappingProxyType

from vastproxy.services.tunnels.addresses import addresses_of, target_of
from vastproxy.services.tunnels.base import Path, SshAddress, TunnelTarget
from vastproxy.vastai import Instance


def test_direct_first_then_the_relays_likely_port_then_its_other_one() -> None:
    instance = Instance(
        id=7,
        start_date=1700000000.9,
        public_ipaddr="192.0.2.7",
        ports=MappingProxyType({"22/tcp": 41022}),
        ssh_host="ssh5.vast.ai",
        ssh_port=11022,
        image_runtype="jupyter_direc ssh_direc ssh_proxy",
    )
    addresses = (
        SshAddress("192.0.2.7", 41022, Path.DIRECT),
        SshAddress("ssh5.vast.ai", 11023, Path.RELAY),
        SshAddress("ssh5.vast.ai", 11022, Path.RELAY),
    )
    assert addresses_of(instance) == addresses
    assert target_of(instance) == TunnelTarget(7, "7@1700000000", addresses)


def test_an_instance_that_is_only_relayed() -> None:
    instance = Instance(id=7, ssh_host="ssh5.vast.ai", ssh_port=11022, image_runtype="ssh_proxy")
    assert [str(address) for address in addresses_of(instance)] == [
        "relay ssh5.vast.ai:11022",
        "relay ssh5.vast.ai:11023",
    ]


def test_nothing_is_known_yet_or_no_sshd_runs() -> None:
    assert addresses_of(Instance(id=7)) == ()
    assert addresses_of(Instance(id=7, image_runtype="args", ssh_host="ssh5.vast.ai", ssh_port=11022)) == ()

"""What the engine asks a server for. Its behaviour on a wire is in tests/integration/test_tunnels.py."""

import pytest

from vastproxy.services.tunnels.asyncssh_engine import HOST_KEY_ALGORITHMS, host_key_algorithms


@pytest.mark.parametrize(
    ("kinds", "first"),
    [
        ((), ("ssh-ed25519",)),
        (("ssh-ed25519",), ("ssh-ed25519", "ecdsa-sha2-nistp256")),
        (("ecdsa-sha2-nistp384",), ("ecdsa-sha2-nistp384", "ssh-ed25519")),
        (("ssh-rsa",), ("rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519")),
        (("unknown",), ("ssh-ed25519",)),
    ],
)
def test_the_kind_of_the_known_key_comes_first_and_nothing_is_left_out(
    kinds: tuple[str, ...], first: tuple[str, ...]
) -> None:
    algorithms = host_key_algorithms(kinds)
    assert algorithms[: len(first)] == first
    assert sorted(algorithms) == sorted(HOST_KEY_ALGORITHMS)

"""Which host key an sshd presents, without logging in: the beginning of a connection, which is then given up."""

import asyncio
from collections.abc import Sequence

import asyncssh

from vastproxy.services.errors import TunnelLost
from vastproxy.services.tunnels.asyncssh_engine import host_key_algorithms
from vastproxy.services.tunnels.base import SshAddress
from vastproxy.services.tunnels.border import host_key_line

#: A key exchange takes three round trips.
LIMIT_S = 6.0


async def presented_key(address: SshAddress, *, kinds: Sequence[str] = (), limit_s: float = LIMIT_S) -> str:
    """The key as in authorized_keys, without comment; of one of these kinds if there is any.

    Raises TunnelLost, one line that says why, when nobody answers as sshd does in time.
    """
    try:
        async with asyncio.timeout(limit_s):
            key = await asyncssh.get_server_host_key(
                address.host, address.port, config=None, server_host_key_algs=host_key_algorithms(kinds)
            )
    except TimeoutError:
        raise TunnelLost(f"{address} does not answer within {limit_s:g} s") from None
    except OSError as error:
        raise TunnelLost(f"{address} cannot be reached ({error.strerror or error})") from None
    except Exception as error:  # asyncssh hands on whatever a malformed packet made it raise
        raise TunnelLost(f"{address} does not answer as sshd does ({type(error).__name__})") from None
    if key is None:
        raise TunnelLost(f"{address} presents no host key")
    return host_key_line(key)

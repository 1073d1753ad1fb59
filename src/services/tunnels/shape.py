"""Whether the asyncssh that is installed is one whose insides `fastpath` and `pulse` know.

By its release, and by what its methods use: a distribution may change a release without telling.
"""

import inspect
from typing import Final

import asyncssh
from asyncssh.connection import SSHConnection
from asyncssh.crypto import GCMCipher

#: Releases of asyncssh that this was written against: at least the first, before the second.
TESTED: Final = ((2, 24, 0), (2, 25, 0))
#: What the methods that are gone around use, by which they are known again.
_USED: Final = {
    "data_received": {"_inpbuf", "_recv_data"},
    "_recv_data": {"_inpbuf", "_recv_handler"},
    "_recv_pkthdr": {"_inpbuf", "_packet", "_recv_handler", "_recv_packet", "_max_recv_pktlen"},
    "_recv_packet": {"_recv_seq", "_inpbuf", "_packet", "decrypt_packet", "_channels", "_finish_recv_packet"},
    "_finish_recv_packet": {"_recv_seq", "_recv_handler", "_recv_pkthdr"},
    "send_packet": {"_rekey_bytes", "_rekey_bytes_sent", "_rekey_time", "_rekey_seconds", "_kex_complete"}
    | {"_auth_complete", "_send_encryption", "_send_seq", "_send", "_deferred_packets", "encrypt_packet"},
    "send_newkeys": {"_send_encryption", "_next_recv_encryption", "_compressor", "_next_decompressor"},
    "_send": {"_transport"},
    "add_channel": {"_channels"},
    "remove_channel": {"_channels"},
    "_make_global_request": {"_transport", "_global_request_waiters", "_send_global_request"},
    "_send_global_request": {"send_packet"},
    "_process_global_response": {"_global_request_waiters", "cancelled", "set_result"},
}
_USED_BY_CIPHER: Final = {"__init__": {"_key", "_iv"}, "_update_iv": {"_iv"}}


def reason_not_to(version: str = asyncssh.__version__, connection: type = SSHConnection) -> str | None:
    """Why this asyncssh is not to be gone around, as half a sentence; None when it may be."""
    try:
        release = tuple(map(int, version.split(".")[:3]))
    except ValueError:
        return f"asyncssh {version} is not a release"
    if not TESTED[0] <= release < TESTED[1]:
        return f"asyncssh {version} is not known yet"
    for owner, used in ((connection, _USED), (GCMCipher, _USED_BY_CIPHER)):
        for method, names in used.items():
            code = getattr(inspect.getattr_static(owner, method, None), "__code__", None)
            if code is None or not names <= set(code.co_names):
                return f"{owner.__name__}.{method} of asyncssh {version} is not what it was"
    return None

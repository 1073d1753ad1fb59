"""The socket that `vastproxy serve` listens on, and what it is called."""

import contextlib
import socket
from collections.abc import Iterator

from vastproxy.settings import SettingsError
from vastproxy.settings.listen import ListenAddress


@contextlib.contextmanager
def bound(address: ListenAddress, *, backlog: int) -> Iterator[socket.socket]:
    """A socket that listens there; `backlog` connections may wait for it. Raises SettingsError when that cannot be."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(backlog)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        hint = "; is another vastproxy running? Choose a port with --listen" if error.errno == 98 else ""
        raise SettingsError(
            f"cannot listen on {address}: {(error.strerror or str(error)).lower()}{hint}"
        ) from None
    listener.setblocking(False)
    with listener:
        yield listener


def url_of(listener: socket.socket, *, tls: bool = False) -> str:
    """Where clients find what listens there."""
    scheme = "https" if tls else "http"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def explained(written: str, address: ListenAddress) -> str:
    """What to add for who wrote the address without a host."""
    if written.strip().startswith(":"):
        return f" ({written.strip()} names no host: only this machine can connect; 0.0.0.0:{address.port} opens it)"
    return ""

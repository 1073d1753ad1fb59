"""The one client of this process: one connection pool, one cache, and one account of what vast.ai allows a second."""

import threading

from vastproxy.vastai.cache import Cache
from vastproxy.vastai.client import VastClient
from vastproxy.vastai.config import VastConfig, load_vast_config
from vastproxy.vastai.monitor import Monitor


class _Shared:
    """The process's client and the lock around making it."""

    lock = threading.Lock()
    client: VastClient | None = None


def get_client(
    config: VastConfig | None = None, *, cache: Cache | None = None, monitor: Monitor | None = None
) -> VastClient:
    """The process's client.

    Made at the first call, and again after it was closed: for `config`, or else from the settings. Whoever asks with
    another `config` than it was made for ends it and gets a new one. Raises SettingsError without a key.
    """
    with _Shared.lock:
        client = _Shared.client
        if client is not None and not client.closed and config in (None, client.config):
            return client
        if client is not None:
            client.close()
        _Shared.client = client = VastClient(config or load_vast_config(), cache=cache, monitor=monitor)
        return client


def set_client(client: VastClient) -> None:
    """Make this the process's client. The one before is not closed."""
    with _Shared.lock:
        _Shared.client = client


def reset_client() -> None:
    """Close and forget the process's client; the next `get_client` makes another."""
    with _Shared.lock:
        client, _Shared.client = _Shared.client, None
    if client is not None:
        client.close()

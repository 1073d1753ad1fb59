"""The vast.ai REST API as a library. It knows nothing of proxying.

from vastproxy.vastai import VastClient, load_vast_config

with VastClient(load_vast_config()) as client:
    instances = client.list_instances()
"""

from vastproxy.vastai.cache import Cache, MemoryCache, NoCache
from vastproxy.vastai.client import VastClient
from vastproxy.vastai.config import VastConfig, load_vast_config
from vastproxy.vastai.errors import (
    VastError,
    VastNotFound,
    VastProtocolError,
    VastRateLimited,
    VastRejected,
    VastUnauthorized,
    VastUnavailable,
    wrap_vast_error,
)
from vastproxy.vastai.health import VastHealth, check_vast_health
from vastproxy.vastai.monitor import CallStats, Monitor, NullMonitor, RecordingMonitor
from vastproxy.vastai.process_client import get_client, reset_client, set_client
from vastproxy.vastai.types import Instance, InstanceList, Offer, Phase, PriceRise, SshKey, User

__all__ = [
    "Cache",
    "CallStats",
    "Instance",
    "InstanceList",
    "MemoryCache",
    "Monitor",
    "NoCache",
    "NullMonitor",
    "Offer",
    "Phase",
    "PriceRise",
    "RecordingMonitor",
    "SshKey",
    "User",
    "VastClient",
    "VastConfig",
    "VastError",
    "VastHealth",
    "VastNotFound",
    "VastProtocolError",
    "VastRateLimited",
    "VastRejected",
    "VastUnauthorized",
    "VastUnavailable",
    "check_vast_health",
    "get_client",
    "load_vast_config",
    "reset_client",
    "set_client",
    "wrap_vast_error",
]

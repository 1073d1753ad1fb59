"""vastproxy: one OpenAI-compatible endpoint in front of every GPU you rent on vast.ai.

As a library it has five parts, each usable without the others:

- the vast.ai API: `VastClient`, `load_vast_config`, what it returns and what it raises;
- the whole proxy as an ASGI application: `create_app`, and `mounted` where it is part of another one;
- the fleet behind it: `build_fleet`, `running`, `Fleet`, and the events that it publishes;
- policies of your own: `Pooled` and what goes with it;
- a vast.ai account that does not exist, to try all of this on: `Simulation`.

Everything is loaded when it is first used, so `import vastproxy` costs nothing. Names that are not listed in `__all__`
are internal and may change with any version.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vastproxy.api.app import build_fleet, create_app, running
    from vastproxy.api.embedding import mounted
    from vastproxy.errors import VastproxyError
    from vastproxy.services.backends.state import Event, State
    from vastproxy.services.errors import (
        BackendConnectError,
        BackendError,
        BackendProtocolError,
        BackendTimeout,
        Cancelled,
        ModelNotFound,
        NoBackendAvailable,
        OverLimit,
        ResponseInterrupted,
        ServiceError,
        TokenNotAccepted,
        TunnelError,
    )
    from vastproxy.services.events import (
        AccountRead,
        BackendAdded,
        BackendRemoved,
        CreditLow,
        EngineEjected,
        EngineReturned,
        FleetEvent,
        Heard,
        LabelWritten,
        MachineKnown,
        PathChanged,
        PollFailed,
        RequestFailed,
        RequestsCancelled,
        StateChanged,
        TokenRefused,
    )
    from vastproxy.services.fleet import Fleet
    from vastproxy.services.happenings import EventBus, EventStream, Happening, Listener
    from vastproxy.services.routing.candidate import Candidate, may_take, power
    from vastproxy.services.routing.policies.cheapest_first import CheapestFirst
    from vastproxy.services.routing.policies.least_loaded import LeastLoaded
    from vastproxy.services.routing.policies.pooled import Pooled
    from vastproxy.services.routing.policies.prefix_affinity import PrefixAffinity
    from vastproxy.services.routing.policies.round_robin import RoundRobinPolicy
    from vastproxy.services.routing.policy import Choice, Hint, Policy, Score
    from vastproxy.services.routing.pool import Pool
    from vastproxy.services.snapshot import BackendSnapshot, FleetSnapshot, FleetSummary
    from vastproxy.settings import Settings, SettingsError, load_settings
    from vastproxy.simulator.simulation import Simulation
    from vastproxy.vastai import (
        Instance,
        InstanceList,
        Offer,
        Phase,
        SshKey,
        User,
        VastClient,
        VastConfig,
        VastError,
        VastNotFound,
        VastProtocolError,
        VastRateLimited,
        VastRejected,
        VastUnauthorized,
        VastUnavailable,
        load_vast_config,
    )

#: Module below this package -> the names that are taken from it. The same as above, for when the program runs.
_EXPORTS: dict[str, tuple[str, ...]] = {
    "api.app": ("build_fleet", "create_app", "running"),
    "api.embedding": ("mounted",),
    "errors": ("VastproxyError",),
    "services.backends.state": ("Event", "State"),
    "services.errors": (
        "BackendConnectError",
        "BackendError",
        "BackendProtocolError",
        "BackendTimeout",
        "Cancelled",
        "ModelNotFound",
        "NoBackendAvailable",
        "OverLimit",
        "ResponseInterrupted",
        "ServiceError",
        "TokenNotAccepted",
        "TunnelError",
    ),
    "services.events": (
        "AccountRead",
        "BackendAdded",
        "BackendRemoved",
        "CreditLow",
        "EngineEjected",
        "EngineReturned",
        "FleetEvent",
        "Heard",
        "LabelWritten",
        "MachineKnown",
        "PathChanged",
        "PollFailed",
        "RequestFailed",
        "RequestsCancelled",
        "StateChanged",
        "TokenRefused",
    ),
    "services.fleet": ("Fleet",),
    "services.happenings": ("EventBus", "EventStream", "Happening", "Listener"),
    "services.routing.candidate": ("Candidate", "may_take", "power"),
    "services.routing.policies.cheapest_first": ("CheapestFirst",),
    "services.routing.policies.least_loaded": ("LeastLoaded",),
    "services.routing.policies.pooled": ("Pooled",),
    "services.routing.policies.prefix_affinity": ("PrefixAffinity",),
    "services.routing.policies.round_robin": ("RoundRobinPolicy",),
    "services.routing.policy": ("Choice", "Hint", "Policy", "Score"),
    "services.routing.pool": ("Pool",),
    "services.snapshot": ("BackendSnapshot", "FleetSnapshot", "FleetSummary"),
    "settings": ("Settings", "SettingsError", "load_settings"),
    "simulator.simulation": ("Simulation",),
    "vastai": (
        "Instance",
        "InstanceList",
        "Offer",
        "Phase",
        "SshKey",
        "User",
        "VastClient",
        "VastConfig",
        "VastError",
        "VastNotFound",
        "VastProtocolError",
        "VastRateLimited",
        "VastRejected",
        "VastUnauthorized",
        "VastUnavailable",
        "load_vast_config",
    ),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = [
    "AccountRead",
    "BackendAdded",
    "BackendConnectError",
    "BackendError",
    "BackendProtocolError",
    "BackendRemoved",
    "BackendSnapshot",
    "BackendTimeout",
    "Cancelled",
    "Candidate",
    "CheapestFirst",
    "Choice",
    "CreditLow",
    "EngineEjected",
    "EngineReturned",
    "Event",
    "EventBus",
    "EventStream",
    "Fleet",
    "FleetEvent",
    "FleetSnapshot",
    "FleetSummary",
    "Happening",
    "Heard",
    "Hint",
    "Instance",
    "InstanceList",
    "LabelWritten",
    "LeastLoaded",
    "Listener",
    "MachineKnown",
    "ModelNotFound",
    "NoBackendAvailable",
    "Offer",
    "OverLimit",
    "PathChanged",
    "Phase",
    "Policy",
    "PollFailed",
    "Pool",
    "Pooled",
    "PrefixAffinity",
    "RequestFailed",
    "RequestsCancelled",
    "ResponseInterrupted",
    "RoundRobinPolicy",
    "Score",
    "ServiceError",
    "Settings",
    "SettingsError",
    "Simulation",
    "SshKey",
    "State",
    "StateChanged",
    "TokenNotAccepted",
    "TokenRefused",
    "TunnelError",
    "User",
    "VastClient",
    "VastConfig",
    "VastError",
    "VastNotFound",
    "VastProtocolError",
    "VastRateLimited",
    "VastRejected",
    "VastUnauthorized",
    "VastUnavailable",
    "VastproxyError",
    "__version__",
    "build_fleet",
    "create_app",
    "load_settings",
    "load_vast_config",
    "may_take",
    "mounted",
    "power",
    "running",
]


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first asked for (PEP 562)."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""What everybody who keeps a backend reachable and known has in common."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from vastproxy.services.backends.backend import Backend
from vastproxy.services.http1.fields import FieldTable
from vastproxy.services.http1.headers import response_fields
from vastproxy.services.tasks import Tasks
from vastproxy.services.tunnels.base import Path, TunnelEngine
from vastproxy.settings.model import Settings


@dataclass(frozen=True, slots=True)
class KeeperTools:
    """What all keepers of a fleet share."""

    engine: TunnelEngine
    settings: Settings
    tasks: Tasks
    clock: Callable[[], float]
    rng: random.Random
    path_changed: Callable[[Backend, Path | None, str], None]
    fields: FieldTable = field(default_factory=response_fields)

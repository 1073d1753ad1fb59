"""Keeps one backend reachable and known: the ways to it, what runs inside, its GPUs. Acts; verdicts are made elsewhere.

`tend` is one round, run on a timer. It goes as far as it gets:

1. connections: dial the paths that are due (`reach.py`);
2. inside: look for engines where none is known, ask each for its health (`inside.py`).

The GPUs are read beside that, for as long as there is a way. A connection that ends or does not answer reports itself
at once; nobody waits for the next round to stop sending requests there.
"""

import asyncio
import logging
from dataclasses import replace

from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.carrier import Carrier
from vastproxy.services.backends.gpu_care import GpuCare
from vastproxy.services.backends.inside import Inside
from vastproxy.services.backends.keeping import KeeperTools
from vastproxy.services.backends.reach import Reach
from vastproxy.services.backends.tunnel_fetch import TunnelFetch
from vastproxy.services.errors import TunnelError
from vastproxy.vastai.types import Instance

logger = logging.getLogger(__name__)


class Keeper:
    """The life of one backend. `tend` must not run twice at the same time; `wake` is set when it should run soon."""

    def __init__(self, backend: Backend, tools: KeeperTools) -> None:
        self.backend = backend
        self.reach = Reach(backend, tools, changed=self._way_changed)
        self._gpus = GpuCare(backend, tools)
        self._tools = tools
        fleet = tools.settings.fleet
        self._inside = Inside(
            lambda: backend.instance,
            tools.settings.engines,
            token=backend.token,
            unhealthy_after=fleet.unhealthy_after,
            proof_s=2 * fleet.probe_interval_s,
            clock=tools.clock,
        )

    @property
    def wake(self) -> asyncio.Event:
        """Set when `tend` should run soon."""
        return self.reach.wake

    async def tend(self) -> None:
        """One round: see the module's docstring. Raises nothing that the instance could cause."""
        if self.backend.leaving:
            return
        await self.reach.tend()
        if self.backend.ways and not self.backend.leaving:
            await self._probe(self.backend.ways[0])

    def update(self, instance: Instance) -> None:
        """The account shows this of our instance now. A row without a start is not another start."""
        before = self.backend.instance
        if instance.start_date is None and before.start_date is not None:
            instance = replace(instance, start_date=before.start_date)
        self.backend.instance = instance
        self.reach.update(before, instance)

    async def leave(self, *, grace_s: float) -> None:
        """The instance is not ours any more: let running streams end, for at most `grace_s`, then close."""
        await self._gpus.aclose()
        await self.reach.leave(grace_s=grace_s)

    async def aclose(self) -> None:
        """Close every connection; streams on them end."""
        await asyncio.gather(self._gpus.aclose(), self.reach.aclose())

    def _way_changed(self) -> None:
        backend = self.backend
        if backend.tunnel is None and not self.reach.is_stalled:
            self._inside.interrupted()
            backend.engine = backend.gpus = None
            backend.gpu_signs = ()
        self._gpus.follow(backend.tunnel)

    async def _probe(self, way: Carrier) -> None:
        try:
            look = await self._inside.round(TunnelFetch(way, fields=self._tools.fields))
        except TunnelError as error:  # the tunnel reports its end itself
            logger.debug("[backend=%d] the round was cut short: %s", self.backend.id, error)
            return
        if self.backend.ways and way.is_usable:
            self.backend.see(look, self._tools.clock())

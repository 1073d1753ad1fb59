"""Keeps the GPUs of one backend read, over whatever tunnel leads there, and tells of signs of trouble."""

import asyncio
import logging

from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.gpu_watch import GpuWatch
from vastproxy.services.backends.gpus import GpuReading, changes, signs
from vastproxy.services.backends.keeping import KeeperTools
from vastproxy.services.tasks import Tasks
from vastproxy.services.tunnels.base import Tunnel

logger = logging.getLogger(__name__)


class GpuCare:
    """What was learnt about the driver holds for one start of the instance, over all its tunnels."""

    def __init__(self, backend: Backend, tools: KeeperTools) -> None:
        self._backend = backend
        self._tools = tools
        self._tasks = Tasks(f"gpus {backend.id}")
        self._watch: GpuWatch | None = None
        self._watch_of = ("", "")
        self._task: asyncio.Task[None] | None = None

    def follow(self, tunnel: Tunnel | None) -> None:
        """Read over this tunnel from now on; over none, not at all."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if tunnel is None or self._tasks.closed:
            return
        instance = self._backend.instance
        if self._watch is None or self._watch_of != (instance.identity, instance.gpu_arch):
            self._watch_of = (instance.identity, instance.gpu_arch)
            limit_s = self._tools.settings.engines.gpu_timeout_s
            self._watch = GpuWatch(instance.gpu_arch, self._see, limit_s=limit_s, rng=self._tools.rng)
        self._task = self._tasks.spawn(self._watch.run(tunnel), name=str(tunnel.address))

    async def aclose(self) -> None:
        """Read no more; what runs inside the instance for it is ended."""
        await self._tasks.aclose()

    def _see(self, reading: GpuReading) -> None:
        backend, now = self._backend, signs(reading)
        if backend.tunnel is None:
            return
        appeared, gone = changes(backend.gpu_signs, now)
        for sign in appeared:
            level = logging.WARNING if sign.trouble.is_fault else logging.DEBUG
            logger.log(level, "[backend=%d] %s", backend.id, sign)
        for sign in gone:
            level = logging.INFO if sign.trouble.is_fault else logging.DEBUG
            logger.log(level, "[backend=%d] %s: no more", backend.id, sign)
        backend.gpus, backend.gpu_signs = reading, now

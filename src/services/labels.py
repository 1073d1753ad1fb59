"""Keeps the labels on vast.ai in step with who is healthy. One write at a time; vast.ai allows one a second.

Writing is a courtesy to people who look at the console: nothing else depends on it. A key without the right to write
is told once and then left alone.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial

from vastproxy.services.events import FleetEvent, LabelWritten
from vastproxy.services.sync import SetLabel
from vastproxy.services.threads import in_thread
from vastproxy.vastai import VastClient, VastError, VastNotFound, VastUnauthorized

logger = logging.getLogger(__name__)

#: How long a shutdown may spend on clearing labels: one call a second is allowed, and people wait.
CLEAR_LIMIT_S = 60.0
#: The same for people in a hurry: time for a label or two.
HURRY_LIMIT_S = 1.0


class Labels:
    """Carries out label plans. `wanted` is asked again before every write, so a plan that aged is never followed."""

    def __init__(
        self,
        client: VastClient,
        *,
        wanted: Callable[[], list[SetLabel]],
        written: Callable[[SetLabel], None],
        publish: Callable[[FleetEvent], None],
    ) -> None:
        self._client = client
        self._wanted = wanted
        self._written = written
        self._publish = publish
        self._may_write = True
        self._changed = asyncio.Event()
        self._limit_s = CLEAR_LIMIT_S
        self._finishing: asyncio.Timeout | None = None
        #: Two who write at the same time would write twice, and one could end while the other still writes.
        self._writing = asyncio.Lock()

    def poke(self) -> None:
        """Something changed that labels may depend on."""
        self._changed.set()

    async def run(self) -> None:
        """Follow the changes, for ever."""
        while self._may_write:
            await self._changed.wait()
            self._changed.clear()
            await self.settle()

    async def settle(self) -> None:
        """Write what is wanted now, until nothing is. What fails is tried again after the next change."""
        failed: set[int] = set()
        async with self._writing:
            while self._may_write:
                write = next((one for one in self._wanted() if one.instance_id not in failed), None)
                if write is None:
                    return
                try:
                    await self._write(write)
                except VastError as error:
                    if not self._go_on_after(write, error):
                        return
                    failed.add(write.instance_id)

    async def finish(self) -> None:
        """`settle` for the last time, bounded: what is not written then stays as it is."""
        try:
            async with asyncio.timeout(self._limit_s) as self._finishing:
                await self.settle()
        except TimeoutError:
            logger.warning("some labels were not cleared within %.0f s", self._limit_s)
        finally:
            self._finishing = None

    def hurry(self) -> None:
        """`finish` has a second from now on, also if it has begun."""
        if self._limit_s > HURRY_LIMIT_S:
            self._limit_s = HURRY_LIMIT_S
            if self._finishing is not None:
                self._finishing.reschedule(asyncio.get_running_loop().time() + HURRY_LIMIT_S)

    async def _write(self, write: SetLabel) -> None:
        call = partial(self._client.label_instance, write.instance_id, write.label)
        with contextlib.suppress(VastNotFound):  # gone: as good as cleared, and a list will say so
            await in_thread(call, name="vast-label")
        self._written(write)
        self._publish(LabelWritten(write.instance_id, write.label))

    def _go_on_after(self, write: SetLabel, error: VastError) -> bool:
        """Is the next label worth a try after this failure?"""
        if isinstance(error, VastUnauthorized) and error.code != "edge_blocked":
            self._may_write = False
            logger.warning(
                "this API key may not write labels (%s); instances are served unlabelled. "
                "Give the key the scope instance_write, or set VASTPROXY_LABEL=none",
                error,
            )
            return False
        logger.warning("[backend=%d] the label could not be written: %s", write.instance_id, error)
        return not (error.retryable or isinstance(error, VastUnauthorized))

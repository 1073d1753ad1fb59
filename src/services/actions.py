"""What a person may have done to an instance beyond draining it: end its contract, accept its changed host key."""

import logging
from collections.abc import Callable, Collection
from functools import partial

from vastproxy.services.errors import ServiceError
from vastproxy.services.events import FleetEvent, Heard
from vastproxy.services.roster import Roster
from vastproxy.services.threads import in_thread
from vastproxy.services.tunnels.base import Path, TunnelEngine
from vastproxy.services.tunnels.hostcheck import HostKeyDecisions, KnowsHostKeys
from vastproxy.services.tunnels.pins import Change
from vastproxy.vastai import VastClient, VastNotFound
from vastproxy.vastai.handlers.events import Decision, Verdict

logger = logging.getLogger(__name__)


class NothingToTrust(ServiceError):
    """No changed host key waits to be accepted, or not the one that the person has seen."""

    status = 409


class Actions:
    """Acts on instances that are served. Belongs to one event loop."""

    def __init__(
        self,
        client: VastClient,
        roster: Roster,
        tunnels: TunnelEngine,
        *,
        publish: Callable[[FleetEvent], None],
    ) -> None:
        self._client = client
        self._roster = roster
        self._tunnels = tunnels
        self._publish = publish

    async def destroy(self, instance_id: int) -> None:
        """End its contract and delete its data, for ever. Then it is out at once, and the account is looked at.

        Requests that run on it break off. Raises KeyError where it is not served, VastError where vast.ai says no.
        """
        if self._roster.get(instance_id) is None:
            raise KeyError(instance_id)
        try:
            await in_thread(partial(self._client.destroy_instance, instance_id), name="vast-destroy")
        except VastNotFound as error:
            if error.code != "no_such_instance":
                raise
        logger.info("[backend=%d] destroyed by order", instance_id)
        self._roster.destroyed(instance_id)
        self._publish(Heard(Decision(Verdict.POLL, (), f"instance {instance_id} was destroyed by order")))

    async def changed_keys(self, instance_id: int) -> tuple[Change, ...]:
        """The host keys that were refused because others are pinned. Raises KeyError where it is not served."""
        identity = self._roster[instance_id].backend.instance.identity
        if (decisions := self._decisions()) is None:
            return ()
        changes = await decisions.changes(instance_id)
        return tuple(change for change in changes if change.identity == identity)

    async def trust(
        self, instance_id: int, *, keys: Collection[str] | None = None, path: Path | None = None
    ) -> tuple[Change, ...]:
        """Pin the keys that were refused in place of those that are pinned, and dial again at once. `keys`: of these
        only, as they were shown; `path`: on this path only. Returns what was accepted.

        Raises KeyError where it is not served, NothingToTrust, PinsNotStored.
        """
        found = await self.changed_keys(instance_id)
        on_path = tuple(change for change in found if path in (None, change.path))
        wanted = tuple(change for change in on_path if keys is None or change.refused.key in keys)
        if not wanted:
            raise NothingToTrust(
                f"instance {instance_id} has shown yet another host key meanwhile; look at it again"
                if on_path
                else f"no changed host key of instance {instance_id} was seen, so there is nothing to trust"
            )
        decisions = self._decisions()
        assert decisions is not None
        for change in wanted:
            if not await decisions.accept(change):
                raise NothingToTrust(
                    f"the {change.path} path of instance {instance_id} has shown yet another host key meanwhile; "
                    "look at it again"
                )
            logger.info(
                "[backend=%d] the new host key of its %s path is trusted by order", instance_id, change.path
            )
        if (keeper := self._roster.get(instance_id)) is not None:
            keeper.reach.redial(change.path for change in wanted)
        return wanted

    def _decisions(self) -> HostKeyDecisions | None:
        rules = self._tunnels.host_keys if isinstance(self._tunnels, KnowsHostKeys) else None
        return rules if isinstance(rules, HostKeyDecisions) else None

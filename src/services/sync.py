"""What has to change so that our backends match the account. Pure, and idempotent: once the actions of a
plan are applied, planning the same observation again gives nothing.

Rules that an API on a bad day taught:

1. Only complete lists are observations. A failed or partial read changes nothing: the last good list stays.
2. An instance that a list shows as not running is out at once. One that is missing from a list is not: lists
   have gaps. It is out after it was missing in `forget_after` complete lists in a row.
3. "unknown" and "offline" tell of vast.ai's line to the host, not of ours. Nothing new is begun there, but a backend
   that we hold stays: its tunnel knows better.
4. Absence is counted by the number of the list, not by calls of `plan`, which is what makes it idempotent.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vastproxy.services.filters import refusal
from vastproxy.settings.model import FleetSettings
from vastproxy.vastai.types import Instance, Phase

#: Phases in which vast.ai does not know how the instance is.
_HEARSAY = (Phase.UNKNOWN, Phase.OFFLINE)


@dataclass(frozen=True, slots=True)
class Observation:
    """One complete list of the account's instances. `number` counts complete lists, from 1."""

    number: int
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """What we hold of one backend: its instance as last seen, and the number of the list it was last in."""

    instance: Instance
    last_seen: int


@dataclass(frozen=True, slots=True)
class Add:
    instance: Instance


@dataclass(frozen=True, slots=True)
class Update:
    instance: Instance


@dataclass(frozen=True, slots=True)
class Remove:
    instance_id: int
    reason: str


Action = Add | Update | Remove


def plan(observed: Observation, known: Mapping[int, Known], fleet: FleetSettings) -> list[Action]:
    """What to do, in the order of instance ids. Apply by making `known` say what the observation says."""
    actions: list[Action] = []
    listed = {instance.id: instance for instance in observed.instances}
    for instance_id in sorted(listed.keys() | known.keys()):
        action = _decide(listed.get(instance_id), known.get(instance_id), observed.number, fleet)
        if action is not None:
            actions.append(action)
    return actions


def _decide(seen: Instance | None, held: Known | None, number: int, fleet: FleetSettings) -> Action | None:
    if seen is None:
        assert held is not None
        if number - held.last_seen < fleet.forget_after:
            return None
        return Remove(held.instance.id, "no longer in the account")
    why_not = _why_not(seen, fleet, held=held is not None)
    if held is None:
        return Add(seen) if why_not is None else None
    if why_not is not None:
        return Remove(seen.id, why_not)
    if held.instance == seen and held.last_seen == number:
        return None
    return Update(seen)


def _why_not(instance: Instance, fleet: FleetSettings, *, held: bool) -> str | None:
    if not instance.is_running and not (held and instance.phase in _HEARSAY):
        return f"it is {instance.phase}"
    return refusal(instance, fleet)


@dataclass(frozen=True, slots=True)
class SetLabel:
    """Write `label` ("" clears) on the instance."""

    instance_id: int
    label: str


def plan_labels(
    instances: Iterable[Instance], healthy: Iterable[int], fleet: FleetSettings
) -> list[SetLabel]:
    """Which labels to write so that exactly the healthy ones of ours carry `fleet.label`.

    A label that somebody else gave is never overwritten, and never cleared. Instances that the settings
    exclude are not touched.
    """
    if fleet.label.casefold() == "none":
        return []
    serving = set(healthy)
    writes: list[SetLabel] = []
    for instance in instances:
        if instance.id in serving:
            if not instance.label:
                writes.append(SetLabel(instance.id, fleet.label))
        elif instance.label == fleet.label and refusal(instance, fleet) is None:
            writes.append(SetLabel(instance.id, ""))
    return writes

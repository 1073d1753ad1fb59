"""Counts what happens to the fleet. A listener of its events."""

from collections.abc import Callable, Iterator

from vastproxy.services.events import (
    AccountRead,
    BackendRemoved,
    FleetEvent,
    PathChanged,
    PollFailed,
    StateChanged,
)
from vastproxy.services.happenings import kind_of
from vastproxy.services.metrics import families, left_families
from vastproxy.services.metrics.exposition import Form, block, labelled, sample
from vastproxy.services.metrics.watch_families import EVENTS


class Happened:
    """How often what has happened. `forget` hears of each instance that is gone."""

    def __init__(self, *, forget: Callable[[int], None]) -> None:
        self._forget = forget
        self.kinds: dict[str, int] = {}
        self.states: dict[str, int] = {}
        self.paths: dict[str, int] = {}
        self.polls_failed = 0
        self.instances: int | None = None

    def __call__(self, event: FleetEvent) -> None:
        """See `EventBus.subscribe`."""
        kind = kind_of(type(event))
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        match event:
            case StateChanged():
                self.states[event.after.value] = self.states.get(event.after.value, 0) + 1
            case PathChanged():
                path = event.path or "none"
                self.paths[path] = self.paths.get(path, 0) + 1
            case PollFailed():
                self.polls_failed += 1
            case AccountRead():
                self.instances = event.instances
            case BackendRemoved():
                self._forget(event.instance_id)
            case _:
                pass  # what was added and labelled is seen in the fleet itself

    def text(self, form: Form) -> Iterator[str]:
        """The counts as lines of a scrape."""
        family = families.POLLS_FAILED
        yield from block(family, form, [sample(family.name, "", self.polls_failed)])
        if self.instances is not None:
            family = left_families.INSTANCES
            yield from block(family, form, [sample(family.name, "", self.instances)])
        for family, label, counts in (
            (EVENTS, "kind", self.kinds),
            (families.STATE_CHANGES, "state", self.states),
            (families.PATH_CHANGES, "path", self.paths),
        ):
            yield from block(
                family,
                form,
                [sample(family.name, labelled(**{label: name}), number) for name, number in counts.items()],
            )

"""What requests need, each a model or none in particular, and who of those that can be asked now has it.

A need keeps its members and their policy from one request to the next. They are brought up to date when something has
changed since, so that a request costs one look into a table, and a change costs nothing until somebody asks.
"""

import random
from collections.abc import Callable, Mapping

from vastproxy.services.backends.engine import Engine
from vastproxy.services.dispatch.need import ANY_MODEL, Need
from vastproxy.services.errors import ModelNotFound
from vastproxy.services.routing.models import PORTS, Models, UnknownModel
from vastproxy.services.routing.policies.make import Memory, make_policy
from vastproxy.settings.routing import RoutingSettings

#: Needs that are kept. A client may make names up, where an engine takes any.
MAX_NEEDS = 256


class Needs:
    """Every need that somebody had lately, and the engines that can be asked."""

    def __init__(self, settings: RoutingSettings, rng: random.Random, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._rng = rng
        self._clock = clock
        self._memory = Memory(settings)
        self._configured = {_key_of(name): models for name, models in settings.models.items()}
        self._known: dict[int, tuple[tuple[str, ...], str]] = {}
        self.table: dict[str | None, Need] = {}
        """By model. One whose version is another than `version` has to be renewed."""
        self.version = 0
        self._is_named = bool(settings.aliases or settings.default_model or settings.models)
        self._is_mixed: bool | None = None
        self.models = Models(settings.aliases, settings.default_model)
        self.offered: dict[int, Engine] = {}
        """Those that may be given requests now."""

    def find(self, model: str | None) -> Need:
        """What a request for `model` needs. Raises ModelNotFound."""
        need = self.table.get(model)
        if need is None:
            return self._make(model)
        if need.version != self.version:
            self.renew(need)
        return need

    def renew(self, need: Need) -> None:
        """Bring its members up to date, if they are not. Raises ModelNotFound if nobody has it any more, which may
        become so without a change: what is gone is remembered for a while only."""
        if need.version == self.version and need.members:
            return
        need.wire_names = wire_names = self._wire_names(need.model)
        need.renames = any(name is not None and name != need.model for name in wire_names.values())
        offered, before = self.offered, need.members
        need.members = {key: offered[key] for key in wire_names if key in offered}
        for key in before:
            if key not in need.members:
                need.policy.withdraw(key)
        for key, engine in need.members.items():
            if before.get(key) is not engine:
                need.policy.offer(engine)
        need.version = self.version
        need.left_out_at = -1

    @property
    def is_mixed(self) -> bool:
        """Does it depend on the model who may be asked, or what the engine is to be told?"""
        if self._is_mixed is None:
            served = {models for models, _ in self._known.values()}
            self._is_mixed = len(served) > 1 or self._is_named
        return self._is_mixed

    def is_known(self, need: Need) -> bool:
        """Has somebody such a model, or had it lately? Then its members are up to date."""
        try:
            self.renew(need)
        except ModelNotFound:
            return False
        return True

    def learn(self, engine: Engine) -> None:
        """An engine is there, or serves something else now."""
        says = (engine.models, engine.kind.value)
        if self._known.get(engine.key) != says:
            self._known[engine.key] = says
            self._is_mixed = None
            configured = self._configured.get(engine.key, self._configured.get(engine.instance_id * PORTS))
            self.models.put(engine.key, engine.models, self._clock(), kind=says[1], configured=configured)
            self.version += 1

    def forget(self, key: int) -> None:
        """An engine is gone."""
        self.withdraw(key)
        if self._known.pop(key, None) is not None:
            self._is_mixed = None
            self.models.remove(key, self._clock())
            self.version += 1

    def offer(self, engine: Engine) -> bool:
        """It may be given requests. Might it not before?"""
        if self.offered.get(engine.key) is engine:
            return False
        self.offered[engine.key] = engine
        self.version += 1
        return True

    def withdraw(self, key: int) -> None:
        """It may not. One that might not anyway is nobody's business."""
        if self.offered.pop(key, None) is not None:
            self.version += 1

    def _make(self, model: str | None) -> Need:
        self._wire_names(model)  # whoever is refused leaves nothing behind
        need = Need(model, make_policy(self._settings, self._rng, self._memory))
        self.renew(need)
        listed = {entry.id for entry in self.models.listing()}
        need.label = next((name for name in (model, *need.wire_names.values()) if name in listed), None)
        while len(self.table) >= MAX_NEEDS:
            del self.table[self._dispensable()]
        self.table[model] = need
        return need

    def _dispensable(self) -> str | None:
        """Which need to drop: the oldest whose name is made up, as the others know where their sessions are."""
        oldest = next(iter(self.table))
        return next((model for model in self.table if model and not self.models.has(model)), oldest)

    def _wire_names(self, model: str | None) -> Mapping[int, str | None]:
        if model == ANY_MODEL:
            return dict.fromkeys(self._known)
        found = self.models.find(model, self._clock())
        if isinstance(found, UnknownModel):
            self.table.pop(model, None)
            raise ModelNotFound(found.message, discreet=found.discreet)
        return found.wire_names


def _key_of(name: str) -> int:
    """The key of `id:port`; of an `id` alone the one with port 0, which no engine has."""
    instance_id, _, port = name.partition(":")
    return int(instance_id) * PORTS + int(port or 0)

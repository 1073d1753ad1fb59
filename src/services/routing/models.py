"""Which engines serve the model that a request asks for, and by which name each of them knows it.

1. An alias from the configuration stands for one model or several; `*` for every name that nobody has.
2. An engine serves the models that it lists (adapters, LoRA, are listed by vLLM as models of their own). If it lists
   none it is taken to serve any. What is configured for it counts instead of both.
3. Ollama lists `name:tag`, and takes `name` for `name:latest`.
4. SGLang takes `model:adapter` for an adapter of a model (its `examples/runtime/lora.py`, 2026); what it lists, and
   whether it has the adapter, need not be known for that.
5. A name that nobody has as it is written is looked for in any case of letters.

Engines refuse a name that they do not know, so where theirs is another one than the client's the body must say theirs
(`rename.py`). A model is remembered for a while after the last engine that had it went: its host is being replaced,
and the request may wait. One that nobody has had is refused.
"""

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

#: Instances and ports in one number, as everywhere in routing.
PORTS = 65_536
#: How long a model is remembered that nobody serves any more. Renting and starting another host takes minutes,
#: loading a large model up to half an hour.
REMEMBER_S = 1_800.0
_MAX_REMEMBERED = 1_024
#: Models named in an error.
MAX_NAMED = 20
_MAX_NAME_CHARS = 200
_LATEST = ":latest"
#: The alias that stands for every name that nobody has.
ANYTHING = "*"


@dataclass(frozen=True, slots=True)
class Serving:
    """Who serves the model. Nobody at all: it is known, but gone for the moment, or nothing is known yet."""

    wire_names: Mapping[int, str | None]
    """For each engine's key the name by which it knows the model; None if it is to decide itself, as the request
    names none."""

    def __bool__(self) -> bool:
        return bool(self.wire_names)


@dataclass(frozen=True, slots=True)
class UnknownModel:
    """Nobody serves such a model. To be answered with 404."""

    model: str
    known: tuple[str, ...]
    """Some that are served."""
    total: int
    """How many are."""

    @property
    def message(self) -> str:
        """For people who may use them all."""
        name = clipped(self.model)
        if not self.known:
            return f"The model '{name}' is not served here; no models are."
        more = f", and {self.total - len(self.known)} more" if self.total > len(self.known) else ""
        return f"The model '{name}' is not served here. Served: {', '.join(map(clipped, self.known))}{more}."

    @property
    def discreet(self) -> str:
        """For people who may not."""
        return f"The model '{clipped(self.model)}' is not served here. GET /v1/models lists those that you may use."


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of the list of models."""

    id: str
    instances: tuple[int, ...]
    """Ids of the instances that serve it, ascending."""
    alias_of: tuple[str, ...] = ()
    """The models that the name stands for, if it is an alias."""


@dataclass(frozen=True, slots=True)
class _Offer:
    """What one engine answers to: each name as a client may write it, and as the engine knows it."""

    listed: tuple[str, ...]
    names: Mapping[str, str]
    any: bool
    adapters: bool


class Models:
    """The engines by the models they serve. Changes are few; a question costs the same for any number of models."""

    def __init__(
        self, aliases: Mapping[str, str | Sequence[str]] | None = None, default: str | None = None
    ) -> None:
        """`default`: the model (or alias) of a request that names none; without it the engine decides."""
        self._aliases = {
            alias: (models,) if isinstance(models, str) else tuple(models)
            for alias, models in (aliases or {}).items()
        }
        self._default = default
        self._offers: dict[int, _Offer] = {}
        self._serving: dict[str, dict[int, str]] = {}
        """Name as a client may write it -> engine -> its own name."""
        self._folded: dict[str, set[str]] = {}
        """The same names without their case."""
        self._any: set[int] = set()
        self._gone: dict[str, float] = {}
        """When a name was served last, the oldest first."""

    def __len__(self) -> int:
        return len(self._offers)

    def put(
        self,
        key: int,
        listed: Iterable[str],
        now: float,
        *,
        kind: str = "",
        configured: Collection[str] | None = None,
    ) -> None:
        """An engine is there, or has changed. `kind`: as in `engine_kinds`. `configured`: all that it serves, whatever
        it lists."""
        offer = _offer(tuple(listed) if configured is None else tuple(configured), kind, configured is None)
        if self._offers.get(key) == offer:
            return
        self.remove(key, now)
        self._offers[key] = offer
        if offer.any:
            self._any.add(key)
        for name, own in offer.names.items():
            self._serving.setdefault(name, {})[key] = own
            self._folded.setdefault(name.casefold(), set()).add(name)
            self._gone.pop(name, None)

    def remove(self, key: int, now: float) -> None:
        """An engine is gone. One that is not well for a moment stays: whether it may be chosen is not decided here."""
        offer = self._offers.pop(key, None)
        if offer is None:
            return
        self._any.discard(key)
        for name in offer.names:
            serving = self._serving[name]
            del serving[key]
            if serving:
                continue
            del self._serving[name]
            alike = self._folded[name.casefold()]
            alike.discard(name)
            if not alike:
                del self._folded[name.casefold()]
            self._gone.pop(name, None)
            self._gone[name] = now
        while len(self._gone) > _MAX_REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def find(self, model: str | None, now: float) -> Serving | UnknownModel:
        """Who serves it? `model`: as the client wrote it; None or "" if it named none."""
        wanted = model or self._default
        if wanted is None:
            return Serving(dict.fromkeys(self._offers))
        meant = self._aliases.get(wanted, (wanted,))
        found = self._meant(meant)
        if not found and ANYTHING in self._aliases and not any(self._remembers(name, now) for name in meant):
            meant = self._aliases[ANYTHING]
            found = self._meant(meant)
        if found or not self._offers or any(self._remembers(name, now) for name in meant):
            return Serving(found)
        known = [entry.id for entry in self.listing()]
        return UnknownModel(wanted, tuple(known[:MAX_NAMED]), len(known))

    def _meant(self, names: Sequence[str]) -> dict[int, str | None]:
        """The engines that have one of these, the first of them that each has, under their names for it."""
        found: dict[int, str | None] = {}
        for name in names:
            for key, own in self._named(name).items():
                found.setdefault(key, own)
        for key in self._any:
            found.setdefault(key, names[0])
        return found

    def has(self, name: str) -> bool:
        """Is it listed, or an alias, as it is written here?"""
        return name in self._serving or name in self._aliases

    def listing(self, among: Container[int] | None = None) -> list[Listed]:
        """Every model with the instances that serve it, by name, and every alias of one of them. `among`: of these
        engines alone; None: of all."""
        serving: dict[str, set[int]] = {}
        for key, offer in self._offers.items():
            for name in offer.listed if among is None or key in among else ():
                serving.setdefault(name, set()).add(key // PORTS)
        entries = {name: Listed(name, tuple(sorted(ids))) for name, ids in serving.items()}
        for alias, models in self._aliases.items():
            keys = {key for model in models for key in self._named(model)}
            ids = {key // PORTS for key in keys if among is None or key in among}
            if ids and alias != ANYTHING:
                entries[alias] = Listed(alias, tuple(sorted(ids)), models)
        return [entries[name] for name in sorted(entries)]

    def _named(self, name: str) -> Mapping[int, str]:
        """The engines that have it, under their names for it."""
        exact = self._serving.get(name)
        if exact is not None:
            return exact
        found: dict[int, str] = {}
        for alike in sorted(self._folded.get(name.casefold(), ())):
            for key, own in self._serving[alike].items():
                found.setdefault(key, own)
        base, colon, adapter = name.rpartition(":")
        if not found and colon and base and adapter:
            for key, own in self._serving.get(base, {}).items():
                if self._offers[key].adapters:
                    found[key] = f"{own}:{adapter}"
        return found

    def _remembers(self, name: str, now: float) -> bool:
        return now - self._gone.get(name, float("-inf")) <= REMEMBER_S


def _offer(models: tuple[str, ...], kind: str, may_be_any: bool) -> _Offer:
    names = {name: name for name in models}
    if kind == "ollama":
        for name in models:
            if name.endswith(_LATEST):
                short = name[: -len(_LATEST)]
                names.setdefault(short, short)
            elif ":" not in name.rpartition("/")[2]:
                names.setdefault(name + _LATEST, name + _LATEST)
    return _Offer(models, names, may_be_any and not models, kind == "sglang")


def clipped(name: str) -> str:
    """As it is shown: the beginning of a long one."""
    return name if len(name) <= _MAX_NAME_CHARS else name[:_MAX_NAME_CHARS] + "…"

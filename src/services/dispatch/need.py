"""One thing that requests need, and who can be asked for it."""

from collections.abc import Collection, Mapping

from vastproxy.services.backends.engine import Engine
from vastproxy.services.routing.candidate import may_take
from vastproxy.services.routing.policies.sticky import Sticky

#: Asked for by a request that is no model's business: any engine will do.
ANY_MODEL = ""
_NOBODY: frozenset[int] = frozenset()


class Need:
    """One thing that is asked for. Equal to itself only."""

    __slots__ = (
        "choose_plain",
        "finished",
        "label",
        "left_out",
        "left_out_at",
        "left_out_until",
        "members",
        "model",
        "policy",
        "renames",
        "version",
        "wire_names",
    )

    def __init__(self, model: str | None, policy: Sticky) -> None:
        self.model = model
        self.label: str | None = None
        """The name that it has in metrics: one that the fleet tells, never one that a client made up."""
        self.policy = policy
        self.finished = policy.inner.finished if policy.inner.hears_of_ends else None
        """To be told when a member has one request less; None where nobody wants to know."""
        self.choose_plain = policy.inner.choose
        """For requests that no pin and no session tie to a place."""
        self.members: dict[int, Engine] = {}
        """Those that can be asked now, by key."""
        self.wire_names: Mapping[int, str | None] = {}
        """By which name each engine that has it knows it; None: it is to decide itself."""
        self.renames = False
        """Does an engine know it by another name than it is asked for by?"""
        self.version = -1
        self.left_out: Collection[int] = _NOBODY
        """Members that are given nothing now, and until when that holds: see `PassiveHealth.left_out`."""
        self.left_out_at = -1
        self.left_out_until = 0.0

    def __repr__(self) -> str:
        return f"<Need {self.model!r} members={len(self.members)}>"

    def has_room(self, exclude: Collection[int]) -> bool:
        """Has one of the members a place, those excluded aside?"""
        return any(may_take(engine, exclude) for engine in self.members.values())

    def has_room_at(self, engines: Mapping[int, Engine], exclude: Collection[int]) -> bool:
        """The same for those members that are among `engines`, by key: what ends at one that has been replaced must
        not hide what has ended at its successor."""
        members = self.members
        return any((one := members.get(key)) is not None and may_take(one, exclude) for key in engines)

"""Who is asking: the accepted keys as one unchangeable table, from which each request finds its caller. Pure.

A key is looked up by the beginning of its SHA-256, which nobody outside can steer, and compared whole in constant
time. What was found stays true for as long as the table is the present one, so it can be kept beside whatever it was
found for and checked by identity: `caller.table is ring.current()`.
"""

import fnmatch
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from vastproxy.services.access.apikey import digest
from vastproxy.services.access.limits import Meter, Refusal, Visit, enter, needs_meter
from vastproxy.services.access.records import KeyBook, KeyLimits, KeyRecord, Right
from vastproxy.services.routing.ticket import Priority

ALL_RIGHTS = frozenset(Right)
#: What the bearer of the process's own key is called.
OWN_NAME = "dashboard"
#: Bytes of a digest by which it is found.
_HEAD = 8


class Caller:
    """Whoever sent a key, or nobody in particular where none is asked for. Made by `Callers`."""

    __slots__ = (
        "_models",
        "digest",
        "id",
        "is_limited",
        "limits",
        "may_infer",
        "meter",
        "name",
        "priority",
        "rights",
        "table",
        "used",
    )

    def __init__(
        self,
        table: "Callers",
        *,
        name: str | None,
        id: str | None,
        digest: bytes = b"",
        rights: frozenset[Right] = ALL_RIGHTS,
        limits: KeyLimits | None = None,
        meter: Meter | None = None,
    ) -> None:
        limits = limits or KeyLimits()
        self.table = table
        """Where it stands; what is known of the caller holds while that is the present one."""
        self.name = name
        """For logs and metrics; None where nobody is told apart."""
        self.id = id
        """Tells callers apart, for as long as they last. None where nobody is told apart. May be shown."""
        self.digest = digest
        self.rights = rights
        self.may_infer = Right.INFERENCE in rights
        self.limits = limits
        self.meter = meter
        """What is counted; None where there is nothing to count."""
        self.used = False
        """Has it asked since somebody wrote that down?"""
        self.priority = Priority.BATCH if limits.priority == "batch" else Priority.INTERACTIVE
        self._models = _pattern(limits.models)
        self.is_limited = meter is not None or bool(limits.models)
        """Is there anything that it may not do, or that is counted?"""

    def __repr__(self) -> str:
        return f"<Caller {self.name or 'anyone'} {'+'.join(sorted(self.rights))}>"

    @property
    def chooses_model(self) -> bool:
        """May it ask for whatever model there is?"""
        return self._models is None

    def may_use(self, model: str | None) -> bool:
        """May it ask for this model? None: the request names none, and so may be for any."""
        if self._models is None:
            return True
        return model is not None and self._models.fullmatch(model.lower()) is not None

    def enter(self, now: float) -> Visit | Refusal:
        """Count a request that begins, if it may. See `Visit`. `now`: seconds that never go back."""
        return enter(self.meter, now)


class Callers:
    """Everybody who may ask, as of one moment."""

    def __init__(
        self,
        plain: Sequence[str] = (),
        book: KeyBook | None = None,
        *,
        now: float = 0.0,
        moment: float = 0.0,
        meters: Mapping[str, Meter] | None = None,
        own: str | None = None,
    ) -> None:
        """`plain`: keys from the settings, all of whose bearers may do everything; they are called env-1, env-2, … .
        `book`: those that are kept, None where there is no file of them. `now`: Unix time, by which keys expire;
        `moment`: seconds that never go back; `meters`: what was counted before, by the id of the key. `own`: a key of
        this process itself, for which nobody else is asked for one."""
        self.meters: dict[str, Meter] = {}
        self._by_head: dict[bytes, list[Caller]] = {}
        self._anyone = Caller(self, name=None, id=None)
        for number, key in enumerate(plain, start=1):
            name = f"env-{number}"
            self._add(Caller(self, name=name, id=name, digest=digest(key.encode())))
        if own is not None:
            self._add(Caller(self, name=OWN_NAME, id=OWN_NAME, digest=digest(own.encode())))
        records = book.keys if book is not None else ()
        live = [record for record in records if not record.is_expired(now)]
        for record in live:
            self._add(self._caller(record, moment, meters or {}))
        #: Is a key asked for? Also where none would be accepted any more: a revoked last key opens nothing.
        self.asks_for_key = bool(plain) or book is not None
        self.changes_at = min((at for record in live if (at := record.expires_at) is not None), default=None)
        """When the next key expires, in Unix time."""

    def __len__(self) -> int:
        return sum(map(len, self._by_head.values()))

    def __repr__(self) -> str:
        return f"<Callers {len(self)} keys>" if self.asks_for_key else "<Callers anyone>"

    def __iter__(self) -> Iterator[Caller]:
        """Everybody with a key."""
        return (caller for callers in self._by_head.values() for caller in callers)

    def find(self, authorizations: Sequence[bytes]) -> Caller | None:
        """Who sends these values of Authorization; None where a key is asked for and none of ours is brought."""
        if not self.asks_for_key:
            return self._anyone
        if len(authorizations) != 1:
            return None
        scheme, _, token = authorizations[0].partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        sent = digest(token.strip())
        for caller in self._by_head.get(sent[:_HEAD], ()):
            if hmac.compare_digest(caller.digest, sent):
                return caller
        return None

    def _add(self, caller: Caller) -> None:
        """The first wins, where the settings and the file have the same key."""
        self._by_head.setdefault(caller.digest[:_HEAD], []).append(caller)

    def _caller(self, record: KeyRecord, moment: float, meters: Mapping[str, Meter]) -> Caller:
        meter = meters.get(record.prefix)
        if meter is not None:
            meter.adopt(record.limits, moment)
        elif needs_meter(record.limits):
            meter = Meter(record.limits, moment)
        if meter is not None:
            self.meters[record.prefix] = meter
        return Caller(
            self,
            name=record.name,
            id=record.prefix,
            digest=bytes.fromhex(record.sha256),
            rights=record.rights,
            limits=record.limits,
            meter=meter,
        )


def _pattern(models: Iterable[str]) -> "re.Pattern[str] | None":
    globs = [fnmatch.translate(model.lower()) for model in models]
    return re.compile("|".join(f"(?:{glob})" for glob in globs)) if globs else None

"""Which host keys are pinned, which were refused, and what a presented key means. Pure: no file, clock or network.

Keys are pinned per instance identity and per path, not per host and port: vast.ai's relay gives the
same port to other instances later, every container has a key of its own, and the relay may answer with
a key that is not the container's (vast.ai docs, 2026-08; the API does not publish host keys).

An identity is "<instance id>@<start date>". A recycled instance has the same id and a later start date;
what was known of the earlier one says nothing about it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from vastproxy.services.tunnels.base import Path

#: Layout of the stored text. Refused keys came later; a reader that does not know them leaves them out.
FORMAT_VERSION = 1
#: Most pins kept; the oldest go first. An account has tens of instances, each with two paths.
MAX_PINS = 4096
#: Most refused keys kept; the longest unseen go first. Each waits for a person's decision.
MAX_REFUSED = 256
#: A key that is refused again within this time does not make the book another one: who is refused tries again and
#: again, and each change is a file written.
SEEN_AGAIN_S = 60
#: A start date in Unix seconds has ten digits.
_MOST_DIGITS = 18

_At = tuple[str, Path]
_EntryT = TypeVar("_EntryT")


class Verdict(Enum):
    """What a presented host key is to us."""

    NEW = "new"
    SAME = "same"
    CHANGED = "changed"


class Sibling(Enum):
    """What the other path of the same instance says about a key presented on this one."""

    #: Nothing is pinned there.
    SILENT = "silent"
    #: The same key is pinned there: it is the instance's own.
    AGREES = "agrees"
    #: It was refused there too: the instance has a new key, or somebody is on both ways.
    CHANGED_TOO = "changed too"
    #: There the key is pinned that was pinned here as well, and no other has been seen: this path alone has changed.
    UNCHANGED = "unchanged"
    #: There a key of its own is pinned, as when the relay itself ends SSH.
    DIFFERS = "differs"


class UnreadablePins(ValueError):
    """A text is not what `PinBook.dump` writes."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A key that was accepted: `key` as in authorized_keys ("ssh-ed25519 AAAA…"), `since` in Unix seconds."""

    key: str
    since: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The key that was refused last: at which `host:port`, first and last in Unix seconds."""

    key: str
    address: str
    since: int
    seen: int


@dataclass(frozen=True, slots=True)
class Change:
    """A changed host key that waits for somebody to accept it."""

    identity: str
    path: Path
    pinned: Pin
    refused: Refused


@dataclass(frozen=True, slots=True)
class PinBook:
    """All pins and refused keys by (identity, path). A value; every change makes a new book."""

    pins: Mapping[_At, Pin] = field(default_factory=dict)
    refused: Mapping[_At, Refused] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pins)

    def pinned(self, identity: str, path: Path) -> str | None:
        """The key that was accepted before, if any."""
        pin = self.pins.get((identity, path))
        return None if pin is None else pin.key

    def check(self, identity: str, path: Path, key: str) -> Verdict:
        """What `key`, presented now, is to us."""
        known = self.pinned(identity, path)
        if known is None:
            return Verdict.NEW
        return Verdict.SAME if known == key else Verdict.CHANGED

    def sibling(self, identity: str, path: Path, key: str) -> Sibling:
        """What the other path says about `key`, presented on this one now."""
        other = (identity, Path.RELAY if path is Path.DIRECT else Path.DIRECT)
        pin = self.pins.get(other)
        if pin is None:
            return Sibling.SILENT
        if pin.key == key:
            return Sibling.AGREES
        there = self.refused.get(other)
        if there is not None and there.key == key:
            return Sibling.CHANGED_TOO
        return (
            Sibling.UNCHANGED if there is None and pin.key == self.pinned(identity, path) else Sibling.DIFFERS
        )

    def changes(self, instance_id: int) -> tuple[Change, ...]:
        """The changed keys of an instance that nobody has accepted: the newest identity first, direct first."""
        found = [
            Change(*at, self.pins[at], refused)
            for at, refused in self.refused.items()
            if _is_of(at[0], instance_id) and at in self.pins and self.pins[at].key != refused.key
        ]
        return tuple(
            sorted(found, key=lambda one: (-(_start(one.identity) or 0), one.identity, one.path.value))
        )

    def with_pin(
        self, identity: str, path: Path, key: str, *, now: float, limit: int = MAX_PINS
    ) -> "PinBook":
        """A book in which this key is pinned, replacing an older pin; at most `limit` pins, newest kept.

        What was refused in this place before is settled with it.
        """
        at = (identity, path)
        pins = _bounded(self.pins, at, Pin(key, int(now)), limit=limit, age=lambda pin: pin.since)
        return PinBook(pins, {place: one for place, one in self.refused.items() if place != at})

    def with_refused(
        self, identity: str, path: Path, key: str, *, address: str, now: float, limit: int = MAX_REFUSED
    ) -> "PinBook":
        """A book that remembers `key` as the one refused last here; at most `limit`, the latest seen are kept.

        The same book where that key was refused here less than `SEEN_AGAIN_S` ago, and where it is pinned.
        """
        at, seen = (identity, path), int(now)
        before = self.refused.get(at)
        if self.pinned(identity, path) == key:
            return self
        if before is not None and before.key == key:
            if 0 <= seen - before.seen < SEEN_AGAIN_S:
                return self
            entry = Refused(key, address, before.since, seen)
        else:
            entry = Refused(key, address, seen, seen)
        return PinBook(
            self.pins, _bounded(self.refused, at, entry, limit=limit, age=lambda refused: refused.seen)
        )

    def without_predecessors(self, identity: str) -> "PinBook":
        """A book without the identities that `identity` took the place of: of the same id, not started later."""
        return PinBook(
            {at: pin for at, pin in self.pins.items() if not is_predecessor(at[0], identity)},
            {at: one for at, one in self.refused.items() if not is_predecessor(at[0], identity)},
        )

    def merged(self, other: "PinBook") -> "PinBook":
        """Both books; where they disagree, `other` counts."""
        return PinBook({**self.pins, **other.pins}, {**self.refused, **other.refused})

    def news(self, before: "PinBook") -> "PinBook":
        """What this book holds that `before` does not, or has otherwise."""
        return PinBook(
            {at: pin for at, pin in self.pins.items() if before.pins.get(at) != pin},
            {at: one for at, one in self.refused.items() if before.refused.get(at) != one},
        )

    def common(self, other: "PinBook") -> "PinBook":
        """What this book holds and `other` holds alike."""
        return PinBook(
            {at: pin for at, pin in self.pins.items() if other.pins.get(at) == pin},
            {at: one for at, one in self.refused.items() if other.refused.get(at) == one},
        )

    def dump(self) -> str:
        """The text to store."""
        pins = [
            {"identity": identity, "path": path.value, "key": pin.key, "since": pin.since}
            for (identity, path), pin in sorted(self.pins.items(), key=lambda item: (item[1].since, item[0]))
        ]
        refused = [
            {
                "identity": identity,
                "path": path.value,
                "key": one.key,
                "address": one.address,
                "since": one.since,
                "seen": one.seen,
            }
            for (identity, path), one in sorted(self.refused.items(), key=lambda item: item[0])
        ]
        return json.dumps({"version": FORMAT_VERSION, "pins": pins, "refused": refused}, indent=1) + "\n"


def is_predecessor(identity: str, of: str) -> bool:
    """Whether `identity` is an earlier life of the instance that is now `of`; no order is known without start dates."""
    if identity == of or _id(identity) != _id(of):
        return False
    earlier, later = _start(identity), _start(of)
    return earlier is None or later is None or earlier <= later


def load_pins(text: str) -> PinBook:
    """The book that `dump` wrote. Raises UnreadablePins for anything else."""
    try:
        document = json.loads(text)
        if document["version"] != FORMAT_VERSION:
            raise UnreadablePins(f"version {document['version']!r:.40} is not known")
        return PinBook(
            dict(map(_read_pin, document["pins"])), dict(map(_read_refused, document.get("refused", ())))
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise UnreadablePins(f"{type(exc).__name__}: {exc}") from exc


def _bounded(
    entries: Mapping[_At, _EntryT], at: _At, entry: _EntryT, *, limit: int, age: Callable[[_EntryT], int]
) -> dict[_At, _EntryT]:
    """The entries with one more or replaced; the newest of the others where there would be too many."""
    others = {place: one for place, one in entries.items() if place != at}
    if len(others) >= limit:
        newest = sorted(others.items(), key=lambda item: age(item[1]), reverse=True)
        others = dict(newest[: limit - 1])
    return {**others, at: entry}


def _read_pin(row: Mapping[str, object]) -> tuple[_At, Pin]:
    key, since = row["key"], row["since"]
    if not (isinstance(key, str) and isinstance(since, int)):
        raise UnreadablePins("a pin has fields of the wrong type")
    return _place(row), Pin(key, since)


def _read_refused(row: Mapping[str, object]) -> tuple[_At, Refused]:
    key, address, since, seen = row["key"], row["address"], row["since"], row["seen"]
    if not (isinstance(key, str) and isinstance(address, str)):
        raise UnreadablePins("a refused key has fields of the wrong type")
    if not (isinstance(since, int) and isinstance(seen, int)):
        raise UnreadablePins("a refused key has times of the wrong type")
    return _place(row), Refused(key, address, since, seen)


def _place(row: Mapping[str, object]) -> _At:
    identity, path = row["identity"], row["path"]
    if not isinstance(identity, str):
        raise UnreadablePins("an identity is not a text")
    return identity, Path(str(path))


def _is_of(identity: str, instance_id: int) -> bool:
    return _id(identity) == str(instance_id)


def _id(identity: str) -> str:
    return identity.partition("@")[0]


def _start(identity: str) -> int | None:
    """The start date in an identity, if it has one that can be compared."""
    text = identity.partition("@")[2]
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None

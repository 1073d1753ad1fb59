"""Which host keys are pinned, and what a presented key means. Pure: no file, no clock, no network.

Keys are pinned per instance identity and per path, not per host and port: vast.ai's relay gives the
same port to other instances later, every container has a key of its own, and the relay may answer with
a key that is not the container's (vast.ai docs, 2026-08; the API does not publish host keys).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from vastproxy.services.tunnels.base import Path

#: Layout of the stored text.
FORMAT_VERSION = 1
#: Most pins kept; the oldest go first. An account has tens of instances, each with two paths.
MAX_PINS = 4096


class Verdict(Enum):
    """What a presented host key is to us."""

    NEW = "new"
    SAME = "same"
    CHANGED = "changed"


class UnreadablePins(ValueError):
    """A text is not what `PinBook.dump` writes."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A key that was accepted: `key` as in authorized_keys ("ssh-ed25519 AAAA…"), `since` in Unix seconds."""

    key: str
    since: int


@dataclass(frozen=True, slots=True)
class PinBook:
    """All pins: (identity, path) -> pin. A value; every change makes a new book."""

    pins: Mapping[tuple[str, Path], Pin] = field(default_factory=dict)

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

    def with_pin(
        self, identity: str, path: Path, key: str, *, now: float, limit: int = MAX_PINS
    ) -> "PinBook":
        """A book in which this key is pinned, replacing an older pin; at most `limit` pins, newest kept."""
        pins = {**self.pins, (identity, path): Pin(key, int(now))}
        if len(pins) > limit:
            newest = sorted(pins.items(), key=lambda item: item[1].since, reverse=True)
            pins = dict([item for item in newest if item[0] != (identity, path)][: limit - 1])
            pins[identity, path] = Pin(key, int(now))
        return PinBook(pins)

    def without(self, instance_id: int) -> "PinBook":
        """A book without the pins of every identity of this instance."""
        own, prefix = str(instance_id), f"{instance_id}@"
        return PinBook(
            {at: pin for at, pin in self.pins.items() if not (at[0] == own or at[0].startswith(prefix))}
        )

    def merged(self, other: "PinBook") -> "PinBook":
        """Both books; where they disagree, `other` counts."""
        return PinBook({**self.pins, **other.pins})

    def dump(self) -> str:
        """The text to store."""
        rows = [
            {"identity": identity, "path": path.value, "key": pin.key, "since": pin.since}
            for (identity, path), pin in sorted(self.pins.items(), key=lambda item: (item[1].since, item[0]))
        ]
        return json.dumps({"version": FORMAT_VERSION, "pins": rows}, indent=1) + "\n"


def load_pins(text: str) -> PinBook:
    """The book that `dump` wrote. Raises UnreadablePins for anything else."""
    try:
        document = json.loads(text)
        if document["version"] != FORMAT_VERSION:
            raise UnreadablePins(f"version {document['version']!r:.40} is not known")
        return PinBook(dict(map(_read_row, document["pins"])))
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise UnreadablePins(f"{type(exc).__name__}: {exc}") from exc


def _read_row(row: Mapping[str, object]) -> tuple[tuple[str, Path], Pin]:
    identity, path, key, since = row["identity"], row["path"], row["key"], row["since"]
    if not (isinstance(identity, str) and isinstance(key, str) and isinstance(since, int)):
        raise UnreadablePins("a pin has fields of the wrong type")
    return (identity, Path(str(path))), Pin(key, since)

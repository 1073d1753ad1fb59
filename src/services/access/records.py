"""The keys that are kept: what is known of each, and the book of them all as a JSON document. Pure.

A field that is not known is an error and not ignored: it may be a limit, and a key without it would be allowed more
than somebody meant it to be.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from vastproxy.services.access.apikey import SHOWN, digest, is_whole, make_key, shown
from vastproxy.services.errors import ServiceError

#: Keys in one book. Reading so many takes 50 ms, for which everything else waits.
MAX_KEYS = 2_000
MAX_PER_MIN = 10**12
MAX_CONCURRENT = 10**6
MAX_GLOB_CHARS = 256
#: A name stands in logs and metrics.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
#: What keys from the settings are called.
RESERVED_NAME = re.compile(r"env-[0-9]+")


class KeyBookError(ServiceError):
    """What was asked of the book of keys cannot be done; nothing was changed."""


class UnreadableKeys(ServiceError):
    """What is stored is no book of keys."""


class Right(StrEnum):
    INFERENCE = "inference"
    """To ask engines, and which models there are."""
    ADMIN = "admin"
    """To see and steer the proxy: everything under /vastproxy/, and /metrics."""


def _moment(value: object) -> object:
    """ISO 8601 to Unix time. Raises ValueError."""
    if not isinstance(value, str):
        return value
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def iso(moment: float) -> str:
    """Unix time as ISO 8601, to the second."""
    return datetime.fromtimestamp(int(moment), UTC).isoformat().replace("+00:00", "Z")


def _name(text: str) -> str:
    if not NAME.fullmatch(text) or RESERVED_NAME.fullmatch(text):
        raise ValueError("no name of a key")
    return text


Moment = Annotated[float, BeforeValidator(_moment), PlainSerializer(iso), Field(ge=0, le=253_402_300_799)]
PerMinute = Annotated[int, Field(ge=1, le=MAX_PER_MIN)]


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class KeyLimits(_Stored):
    """What a key may use. None: no limit of its own."""

    requests_per_min: PerMinute | None = None
    concurrent: Annotated[int, Field(ge=1, le=MAX_CONCURRENT)] | None = None
    tokens_per_min: PerMinute | None = None
    models: tuple[Annotated[str, Field(min_length=1, max_length=MAX_GLOB_CHARS)], ...] = ()
    """Shell patterns, case does not matter; none: every model."""
    priority: Literal["interactive", "batch"] = "interactive"


class KeyRecord(_Stored):
    """What is kept of one key."""

    name: Annotated[str, AfterValidator(_name)]
    prefix: Annotated[str, Field(pattern=f"^{SHOWN.pattern}$")]
    """How the key begins; no two in a book begin alike."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", repr=False)]
    created_at: Moment
    expires_at: Moment | None = None
    rights: Annotated[frozenset[Right], Field(min_length=1), PlainSerializer(sorted)]
    limits: KeyLimits = KeyLimits()

    def is_expired(self, now: float) -> bool:
        """`now`: Unix time."""
        return self.expires_at is not None and self.expires_at <= now


class KeyBook(_Stored):
    """All keys, in the order in which they were made."""

    version: Literal[1] = 1
    keys: Annotated[tuple[KeyRecord, ...], Field(max_length=MAX_KEYS)] = ()

    @model_validator(mode="after")
    def _none_twice(self) -> Self:
        for what in ("name", "prefix", "sha256"):
            if len({getattr(key, what) for key in self.keys}) < len(self.keys):
                raise ValueError(f"two keys have the same {what}")
        return self

    def create(
        self,
        name: str,
        *,
        rights: frozenset[Right],
        limits: KeyLimits,
        now: float,
        expires_at: float | None = None,
        make: Callable[[], str] = make_key,
    ) -> tuple["KeyBook", KeyRecord, str]:
        """The book with one more key, its record, and the key itself, which is kept nowhere.

        Raises KeyBookError when the name is taken or none, or the book is full.
        """
        if RESERVED_NAME.fullmatch(name):
            raise KeyBookError(f"{name} is what a key from the settings is called; choose another name")
        if not NAME.fullmatch(name):
            raise KeyBookError(
                "the name of a key has 1 to 64 letters, digits and . _ @ -, and begins with a letter or digit"
            )
        if any(key.name == name for key in self.keys):
            raise KeyBookError(
                f"there is a key called {name} already; revoke it first or choose another name"
            )
        if len(self.keys) >= MAX_KEYS:
            raise KeyBookError(f"there are {MAX_KEYS} keys, which is all there can be; revoke one first")
        prefixes = {key.prefix for key in self.keys}
        while shown(key := make()) in prefixes:
            pass  # one in 57 billion
        record = KeyRecord(
            name=name,
            prefix=shown(key),
            sha256=digest(key.encode()).hex(),
            created_at=int(now),
            expires_at=None if expires_at is None else int(expires_at),
            rights=rights,
            limits=limits,
        )
        return KeyBook(keys=(*self.keys, record)), record, key

    def find(self, wanted: str) -> KeyRecord:
        """The key of this name, of this shown beginning, or the key itself. Raises KeyBookError when there is none."""
        if len(wanted) > len(shown(wanted)) and SHOWN.match(wanted):
            return self._find_whole(wanted)
        for key in self.keys:
            if wanted in (key.name, key.prefix):
                return key
        raise KeyBookError(f"there is no key called {wanted[:80]!r}; see: vastproxy keys list")

    def without(self, record: KeyRecord) -> "KeyBook":
        """The book without this key."""
        return KeyBook(keys=tuple(key for key in self.keys if key.sha256 != record.sha256))

    def dump(self) -> str:
        """For the file."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"

    def _find_whole(self, wanted: str) -> KeyRecord:
        """Whoever found a key where it should not be has all of it, and must not repeat it in an error."""
        found = digest(wanted.encode()).hex()
        for key in self.keys:
            if key.sha256 == found or wanted == key.name:
                return key
        why = "not among the keys" if is_whole(wanted) else "not whole: it was cut or mistyped"
        raise KeyBookError(f"that key ({shown(wanted)}…) is {why}; see: vastproxy keys list")


def load_book(text: str | bytes) -> KeyBook:
    """Read what `dump` wrote. Raises UnreadableKeys, whose message says where it is wrong and holds nothing of it."""
    try:
        return KeyBook.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"])
        what = " ".join(first["msg"].split())[:200]
        raise UnreadableKeys(f"{where}: {what}" if where else what) from None

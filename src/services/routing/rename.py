"""Another name for the model in a body: the one that the engine knows. Every other byte stays."""

import json
from dataclasses import dataclass

from vastproxy.services.routing.peek import Asked


@dataclass(frozen=True, slots=True)
class Edit:
    """Bytes of a body that are replaced by others. Most replace a few near its beginning or end."""

    start: int
    end: int
    new: bytes

    @property
    def growth(self) -> int:
        """By how many bytes the body becomes longer; negative: shorter. To be added to a length that was announced."""
        return len(self.new) - (self.end - self.start)

    def apply(self, body: bytes) -> bytes:
        """The body, or as much of it as has come: at least `end` bytes."""
        return b"".join((body[: self.start], self.new, body[self.end :]))


def rename(asked: Asked, name: str, body: bytes) -> Edit | None:
    """What makes the body ask for `name`: the last "model" of it is replaced if it is a string or null, and one is put
    in where there is none. `body`: as much as `asked` was read from. None: it says so already, or it cannot be made to.

    Where only the beginning was read, a model that comes later counts instead of one that was put in."""
    if asked.model == name:
        return None
    if asked.span is not None:
        start, end = asked.span
        new = name.encode("utf-8", "replace") if asked.is_form else json.dumps(name).encode()
        return Edit(start, end, new)
    if asked.insert_at is None:
        return None
    comma = "" if body[asked.insert_at :].lstrip(b" \t\r\n").startswith(b"}") else ","
    return Edit(asked.insert_at, asked.insert_at, f'"model":{json.dumps(name)}{comma}'.encode())

"""Another name for the model in a body: the one that the engine knows. Every other byte stays."""

import json
from dataclasses import dataclass

from vastproxy.services.routing.form import Form
from vastproxy.services.routing.members import Parsed
from vastproxy.services.routing.peek import members
from vastproxy.services.routing.toplevel import TopLevel


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


def rename(
    body: bytes, name: str, content_type: bytes = b"application/json", *, complete: bool = True
) -> Edit | None:
    """What makes the body ask for `name`: the last "model" of it is replaced if it is a string or null, and one is put
    in where there is none. None: it cannot be made to.

    `complete`: is it all of the body? Of one that is still coming the beginning is changed, if the model stands there;
    a second model behind it would count instead."""
    found = members(body, content_type, complete=complete)
    if found.broken:
        return None
    start, end = found.spans.get("model", (0, -1))
    if end >= 0:
        if isinstance(found, Form):
            return Edit(start, end, name.encode("utf-8", "replace"))
        is_name = found.values["model"][:1] == b'"' or found.values["model"] == b"null"
        return Edit(start, end, json.dumps(name).encode()) if is_name else None
    if (
        not isinstance(found, TopLevel | Parsed)
        or found.opened_at is None
        or not complete
        or "model" in found.values
    ):
        return None
    at = found.opened_at + 1
    comma = "" if body[at:].lstrip(b" \t\r\n").startswith(b"}") else ","
    return Edit(at, at, f'"model":{json.dumps(name)}{comma}'.encode())

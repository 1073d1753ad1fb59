"""Server-sent events (html.spec.whatwg.org, §9.2), from the lines of a stream. Pure."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Sent(NamedTuple):
    """One event. A comment is told as one without a name and data: something has been heard."""

    event: str
    data: str


def events(lines: Iterable[bytes]) -> Iterator[Sent]:
    """Each event as soon as the empty line behind it is there; an unfinished last one is none."""
    name, data = "", list[str]()
    for raw in lines:
        line = raw.decode("utf-8", "replace")
        if not line:
            if data:
                yield Sent(name or "message", "\n".join(data))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "":
            yield Sent("", "")
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)

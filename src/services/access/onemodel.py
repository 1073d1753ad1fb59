"""Does a body name one model and no other, whoever reads it? Pure.

Who may ask for certain models only must not show us one name and the engine another. Engines read a body in their own
way: of a member given twice the last one counts, in Go (Ollama) in any case of its letters; Go and llama.cpp take JSON
whatever its Content-Type says, and Go takes no offence at what stands behind it; Python's readers of forms know
several ways to write the name of a field. So a body must be one that all of them can read in one way only.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from vastproxy.services.routing.form import boundary_of
from vastproxy.services.routing.toplevel import TopLevel

_FORM = b"multipart/form-data"
_NOT_JSON = (b"multipart/", b"application/x-www-form-urlencoded")
#: `"model":` in any case, each letter perhaps as an escape. What stands inside of a string has no bare quotes.
_KEY = re.compile(
    rb'"(?:m|\\u00[64]d)(?:o|\\u00[64]f)(?:d|\\u00[64]4)(?:e|\\u00[64]5)(?:l|\\u00[64]c)"[ \t\r\n]*+:',
    re.IGNORECASE,
)
#: The parameter, in every way that a reader may take for it. Browsers have the word in its value, too.
_BOUNDARY = re.compile(rb"boundary[ \t*0-9]*+=")
#: The one way to name the part of a form, as curl, httpx and browsers write it; a file may have a name.
_DISPOSITION = re.compile(
    rb'content-disposition:[ \t]*form-data;[ \t]*name="([^"\\%*]*)"'
    rb'(?:;[ \t]*filename="[^"\\]*")?(?:;[ \t]*filename\*=[^;"\\\s]*)?[ \t]*',
    re.IGNORECASE,
)
_MODEL = "model"
_MAX_PARTS = 1000


def names_one_model(body: bytes, content_types: Sequence[bytes]) -> bool:
    """Would every engine read the same one model out of it, if any? `content_types`: the values of all headers of
    that name; of a body without any it is JSON."""
    if len(content_types) > 1:
        return False
    content_type = content_types[0].lower() if content_types else b""
    if not content_type.startswith(_NOT_JSON):
        return _in_json(body)
    if not content_type.startswith(_FORM) or len(_BOUNDARY.findall(content_type)) != 1:
        return False
    boundary = boundary_of(content_types[0])
    return boundary is not None and _in_form(body, boundary)


def _in_json(body: bytes) -> bool:
    seen = _KEY.finditer(body)
    if next(seen, None) is None:
        return False
    if next(seen, None) is None:
        return True  # however deep it lies, there is no other
    keys = _Models()
    reader = TopLevel(keys)
    reader.feed(body)
    return reader.complete and keys.seen == 1


class _Models(Mapping[str, int]):
    """Wants nothing of an object, and counts how often it is asked for a model."""

    def __init__(self) -> None:
        self.seen = 0

    def __contains__(self, key: object) -> bool:
        self.seen += isinstance(key, str) and key.lower() == _MODEL
        return False

    def __getitem__(self, key: str) -> int:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _in_form(body: bytes, boundary: bytes) -> bool:
    """Nothing may stand before the first part: as JSON it would be read where nobody asks for the Content-Type."""
    delimiter = b"\r\n--" + boundary
    if body.count(delimiter) > _MAX_PARTS:
        return False
    first, *parts = (b"\r\n" + body).split(delimiter)
    if first or not parts or not parts[-1].startswith(b"--"):
        return False
    names = [_name_of(part) for part in parts[:-1]]
    return None not in names and _count(names) == 1


def _name_of(part: bytes) -> bytes | None:
    """The name of a part; None where it could be read in two ways."""
    head, ended, _ = part.partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    found = [line for line in lines if line.lower().startswith(b"content-disposition")]
    if start or not ended or len(found) != 1 or any(line[:1] in (b" ", b"\t") for line in lines):
        return None
    named = _DISPOSITION.fullmatch(found[0])
    return named[1] if named is not None else None


def _count(names: Collection[bytes | None]) -> int:
    return sum(name is not None and name.strip().lower() == _MODEL.encode() for name in names)

"""JSON objects as nobody's library writes them, and what Python reads in them."""

import itertools
import json
from typing import Any

from hypothesis import strategies as st

SPACE = st.text(" \t\r\n", max_size=2)
STRINGS = (
    st.text(max_size=12)
    | st.text('\\"{}[],:m', max_size=12)
    | st.sampled_from(['"model":"no"', '{"model":"no"}', "model", "\\", '\\"', "true"])
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | STRINGS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(STRINGS | st.sampled_from(["model", "stream", "user"]), inner, max_size=3)
    ),
    max_leaves=10,
)
KEYS = st.sampled_from(["model", "stream", "messages", "prompt", "user", "metadata", "n", "models"]) | STRINGS


@st.composite
def written(draw: st.DrawFn, key: str) -> str:
    """A key in quotes, some of its characters as escapes."""
    if not draw(st.booleans()):
        return json.dumps(key, ensure_ascii=draw(st.booleans()))
    disguised = draw(st.sets(st.integers(0, max(len(key) - 1, 0)), max_size=3))
    parts = [
        "".join(f"\\u{unit:04x}" for unit in _units(char)) if at in disguised else json.dumps(char)[1:-1]
        for at, char in enumerate(key)
    ]
    return f'"{"".join(parts)}"'


def _units(char: str) -> list[int]:
    data = char.encode("utf-16-be", "surrogatepass")
    return [data[at] << 8 | data[at + 1] for at in range(0, len(data), 2)]


@st.composite
def objects(draw: st.DrawFn, max_members: int = 7) -> bytes:
    """The text of an object: any order, keys twice, escapes, white space, perhaps a byte order mark."""
    parts = []
    for _ in range(draw(st.integers(0, max_members))):
        key = draw(KEYS)
        value = draw(STRINGS if key == "model" and draw(st.integers(0, 4)) else VALUES)
        indent = draw(st.sampled_from([None, None, 1]))
        text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=indent)
        parts.append(f"{draw(SPACE)}{draw(written(key))}{draw(SPACE)}:{draw(SPACE)}{text}{draw(SPACE)}")
    body = draw(SPACE) + "{" + (",".join(parts) or draw(SPACE)) + "}" + draw(SPACE)
    mark = b"\xef\xbb\xbf" if draw(st.integers(0, 9)) == 0 else b""
    return mark + body.encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The same with a few bytes changed, lost or added: mostly no JSON any more."""
    body = bytearray(draw(objects()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        some = draw(st.sampled_from([b"", b'"', b"\\", b"{", b"}", b"[", b",", b":", b"\xff", b" ", b"0"]))
        body[at : at + draw(st.integers(0, 2))] = some
    return bytes(body)


def loaded(body: bytes) -> dict[str, Any] | None:
    """What Python's json makes of it as UTF-8; None if it is no object."""
    try:
        value = json.loads(body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def cut(body: bytes, places: list[int]) -> list[bytes]:
    """The body in pieces."""
    edges = [0, *sorted(min(place, len(body)) for place in places), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(edges)]

"""What a key of ours looks like: `vp-`, 43 random characters (256 bits), and 6 that check them. Pure.

A key is shown once, when it is made. What is kept is its SHA-256: with 256 random bits there is nothing that a slow
hash would make harder to guess. The beginning finds a key in a list, and lets scanners of repositories know one; the
check characters tell a key that was cut or mistyped from one that is not known.
"""

import hashlib
import re
import secrets
import zlib
from collections.abc import Callable

PREFIX = "vp-"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_CHARS = 43
_CHECK_CHARS = 6
#: Characters after the prefix that are shown and kept: 36 of the 256 bits.
_SHOWN_CHARS = 6
_WHOLE = re.compile(f"{PREFIX}[0-9A-Za-z]{{{_RANDOM_CHARS + _CHECK_CHARS}}}")
SHOWN = re.compile(f"{PREFIX}[0-9A-Za-z]{{{_SHOWN_CHARS}}}")


def make_key(choose: Callable[[str], str] = secrets.choice) -> str:
    """A new key. `choose` picks one character of a text; it must not be predictable."""
    random = "".join(choose(_ALPHABET) for _ in range(_RANDOM_CHARS))
    return f"{PREFIX}{random}{_check(random)}"


def is_whole(text: str) -> bool:
    """Is this a key as `make_key` makes them, with nothing missing and nothing mistyped?"""
    body = text.removeprefix(PREFIX)
    return _WHOLE.fullmatch(text) is not None and _check(body[:_RANDOM_CHARS]) == body[_RANDOM_CHARS:]


def shown(key: str) -> str:
    """The part of a key that may be shown."""
    return key[: len(PREFIX) + _SHOWN_CHARS]


def digest(key: bytes) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key).digest()


def _check(random: str) -> str:
    number, text = zlib.crc32(random.encode()), ""
    for _ in range(_CHECK_CHARS):  # 62**6 is more than 2**32
        number, digit = divmod(number, len(_ALPHABET))
        text = _ALPHABET[digit] + text
    return text

"""Reads what a client is sent during the chaos: a correct answer, a correct error, or something that must not be."""

import asyncio
import json
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass

from bench.chaos_answers import MARK, refusal
from bench.chaos_stage import LIMITS

#: What the proxy's limits are exceeded by before a wait counts as a hang: the machine is busy, too.
SLACK_S = 4.0
_OURS = frozenset({429, 502, 503, 504})
_WITH_RETRY_AFTER = frozenset({429, 503})
_ERROR_EVENT = b"event: error\ndata: "


class Incorrect(Exception):
    """Neither a correct answer nor a correct error."""


@dataclass(slots=True)
class Asked:
    """One request and what became of it, times by the monotonic clock."""

    kind: str
    nonce: str
    model: str
    began: float
    ended: float = 0.0
    first_byte: float | None = None
    streamed: bool = False
    status: int = 0
    instance: int | None = None
    request_id: str = ""
    verdict: str = ""
    """`correct`, `left` (the client itself), `error` (a correct one) or `incorrect`."""
    what: str = ""
    message: str = ""
    """What an error of the proxy said."""


async def read_answer(asked: Asked, reader: asyncio.StreamReader, expected: bytes, within_s: float) -> bool:
    """Read one answer and judge it. True when the connection may be used again. Raises Incorrect; and what the reader
    raises where nothing was answered at all."""
    fields = await _head(asked, reader, within_s)
    asked.first_byte = time.monotonic()
    chunked = fields.get("transfer-encoding", "").lower() == "chunked"
    body, broken = await (_chunks(reader) if chunked else _sized(reader, fields))
    if asked.status != 200:
        if broken:
            raise Incorrect(f"an error with status {asked.status} that breaks off")
        asked.verdict, asked.what = "error", judge_error(asked, fields, body)
    elif broken:
        asked.verdict, asked.what = "error", judge_broken(asked, body, expected)
    elif body == expected:
        asked.verdict = "correct"
    else:
        raise Incorrect(describe_difference(body, expected))
    return not broken and fields.get("connection", "").lower() != "close"


def judge_error(asked: Asked, fields: Mapping[str, str], body: bytes) -> str:
    """What kind of correct error this is. Raises Incorrect. Pure."""
    status = asked.status
    if MARK in fields:
        if fields[MARK] != asked.nonce or body != refusal(asked.nonce):
            raise Incorrect(f"the engine's refusal of another request: {body[:200]!r}")
        return f"{status}, the engine's own"
    try:
        error = json.loads(body)["error"]
        code, asked.message, _ = str(error["code"]), str(error["message"]), (error["type"], error["param"])
    except (ValueError, KeyError, TypeError):
        raise Incorrect(f"status {status} without an error in OpenAI's shape: {body[:200]!r}") from None
    if status not in _OURS:
        raise Incorrect(f"status {status} {code}: {asked.message}")
    if status in _WITH_RETRY_AFTER and not fields.get("retry-after", "").isdigit():
        raise Incorrect(f"status {status} {code} without Retry-After")
    return f"{status} {code}"


def judge_broken(asked: Asked, body: bytes, expected: bytes) -> str:
    """What kind of correct end this is, for an answer whose connection broke. Raises Incorrect. Pure."""
    if not asked.streamed:
        if not expected.startswith(body):
            raise Incorrect(f"broke off, and {describe_difference(body, expected)}")
        return "broken off within its announced length"
    before, found, event = body.rpartition(_ERROR_EVENT)
    if not found:
        raise Incorrect(f"a stream that broke off without an error event: …{body[-80:]!r}")
    if not (expected.startswith(before) or (before[-2:] == b"\n\n" and expected.startswith(before[:-2]))):
        raise Incorrect(f"before its error event, {describe_difference(before, expected)}")
    try:
        error = json.loads(event)["error"]
        asked.message, _ = str(error["message"]), error["type"]
        return f"error event {error['code']}, then broken off"
    except (ValueError, KeyError, TypeError):
        raise Incorrect(f"an error event without an error: {event[:200]!r}") from None


def describe_difference(body: bytes, expected: bytes) -> str:
    """Where a body is another one than expected. Pure."""
    same = next((at for at, (one, two) in enumerate(zip(body, expected, strict=False)) if one != two), None)
    if same is None:
        return f"ended properly after {len(body)} of {len(expected)} bytes: …{body[-60:]!r}"
    return f"differs at byte {same} of {len(expected)}: {body[max(0, same - 20) : same + 60]!r}"


async def _head(asked: Asked, reader: asyncio.StreamReader, within_s: float) -> dict[str, str]:
    try:
        async with asyncio.timeout(within_s + SLACK_S):
            raw = await reader.readuntil(b"\r\n\r\n")
    except TimeoutError:
        raise Incorrect(f"no answer within {within_s + SLACK_S:g} s") from None
    lines = raw.decode("latin-1").split("\r\n")
    fields = {
        name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines[1:] if one)
    }
    asked.status = int(lines[0].split(" ")[1])
    asked.request_id = fields.get("x-request-id", "")
    at = fields.get("x-vastproxy-instance")
    asked.instance = int(at) if at is not None else None
    return fields


async def _sized(reader: asyncio.StreamReader, fields: Mapping[str, str]) -> tuple[bytes, bool]:
    """A body of an announced length, and whether it broke off."""
    if not fields.get("content-length", "").isdigit():
        raise Incorrect("an answer that has neither a length nor chunks")
    left = int(fields["content-length"])
    pieces: list[bytes] = []
    while left:
        try:
            piece = await _within(reader.read(min(left, 65536)))
        except OSError:
            piece = b""
        if not piece:
            return b"".join(pieces), True
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces), False


async def _chunks(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """A body in chunks, and whether it broke off."""
    text = bytearray()
    try:
        while size := int((await _within(reader.readuntil(b"\r\n"))).split(b";")[0], 16):
            text += (await _within(reader.readexactly(size + 2)))[:-2]
        await _within(reader.readexactly(2))
    except asyncio.IncompleteReadError as error:
        if error.partial.strip() and len(error.partial) > 2:
            raise Incorrect(f"broke off within a chunk: {error.partial[:80]!r}") from None
        return bytes(text), True
    except OSError:
        return bytes(text), True
    except ValueError as error:
        raise Incorrect(f"chunks that cannot be read: {error}") from None
    return bytes(text), False


async def _within(coming: Awaitable[bytes]) -> bytes:
    try:
        async with asyncio.timeout(LIMITS.idle + SLACK_S):
            return await coming
    except TimeoutError:
        raise Incorrect(f"silent for {LIMITS.idle + SLACK_S:g} s within an answer") from None

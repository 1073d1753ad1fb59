"""The id under which an SGLang engine can be told to stop: how it gets into a request without changing the rest.

Read in SGLang 0.4.1 to 0.5.23 (`protocol.py`, `io_struct.py`, `tokenizer_manager.py`, `scheduler.py`):

- `rid` is taken by /generate (always), /v1/chat/completions (0.4.6 on; ignored before) and /v1/completions (0.4.8
  on). /v1/responses has had `request_id`, with values like `resp_<32 hex>`, from its beginning. /v1/messages and
  the Ollama paths have nothing. A header does it since 0.5.2x, but only if an environment variable allows it.
- One id for several sequences (`n` above 1, a list of prompts) is refused before 0.4.8, and afterwards replaced
  by ids that we do not know. Such a request goes without.
- No schema of these paths refuses a key, and of a key given twice the last one counts.
- The HTTP side knows an id only as a whole, and ignores an unknown one; the scheduler then ends every request whose
  id begins with it. So all of ours have one length, and a client's shorter one is never used. As answers show the
  id to the client, ours must not follow from one another: they are random from end to end.
- An id that is still in use is refused (0.5.6 on), so every attempt needs a new one.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: As many as in SGLang's own ids, which are `uuid4().hex`.
RID_CHARS = 32

#: Bodies up to here are parsed: 1 ms for each MB of text, 5 ms for each MB of token ids. Longer ones are searched,
#: piece by piece, for what could stand against an id.
PARSED_BYTES = 256 * 1024

#: White space at the end of a body that is waited through for its last piece.
_MAX_HELD = 4096
_SPACE = b" \t\r\n"


def new_rid(entropy: Callable[[int], bytes] = os.urandom) -> str:
    """A fresh id, to be used for one attempt. `entropy(n)` gives n bytes that nobody can guess."""
    return entropy(RID_CHARS // 2).hex()


def _one_choice(settings: Mapping[str, Any]) -> bool:
    n = settings.get("n", 1)
    return n is None or (n == 1 and not isinstance(n, bool))


def _token_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and type(value[0]) is int


def _one_completion(wanted: Mapping[str, Any]) -> bool:
    prompt = wanted.get("prompt")
    return _one_choice(wanted) and (isinstance(prompt, str) or _token_ids(prompt))


def _one_generation(wanted: Mapping[str, Any]) -> bool:
    given = [key for key in ("text", "input_ids", "input_embeds") if wanted.get(key) is not None]
    sampling = wanted.get("sampling_params")
    if sampling is not None and not (isinstance(sampling, dict) and _one_choice(sampling)):
        return False
    if given == ["text"]:
        return isinstance(wanted["text"], str)
    return given == ["input_ids"] and _token_ids(wanted["input_ids"])


def _foreground(wanted: Mapping[str, Any]) -> bool:
    """An answer that is made in the background is meant to outlive its client."""
    return not wanted.get("background")


#: What must not occur in a long body, unless the pattern matches there.
_Watched = tuple[tuple[bytes, re.Pattern[bytes] | None], ...]

_WATCHED_N: _Watched = (
    (b'"n"', re.compile(rb'"n"\s*(?:[,}\]]|:\s*1\s*[,}])')),
    (b'"rid"', None),
    (b"\\u006", None),  # an `n` in disguise
)
_WATCHED_RESPONSES: _Watched = (
    (b'"background"', re.compile(rb'"background"\s*(?:[,}\]]|:\s*false\s*[,}])')),
    (b'"request_id"', None),
)
_WINDOW = 16 * 1024
_OVERLAP = max(len(needle) for needle, _ in _WATCHED_N + _WATCHED_RESPONSES) - 1


@dataclass(frozen=True, slots=True)
class _Form:
    """How one path takes an id. Without `watched` long bodies go without."""

    is_single: Callable[[Mapping[str, Any]], bool]
    watched: _Watched = ()
    key: str = "rid"
    prefix: str = ""

    def member(self, rid: str) -> bytes:
        """What is put before the last brace."""
        return f',"{self.key}":"{self.prefix}{rid}"'.encode("ascii")


_FORMS: Mapping[bytes, _Form] = {
    b"/v1/chat/completions": _Form(_one_choice, _WATCHED_N),
    b"/v1/completions": _Form(_one_completion, _WATCHED_N),
    b"/v1/responses": _Form(_foreground, _WATCHED_RESPONSES, "request_id", "resp_"),
    b"/generate": _Form(_one_generation),
}

#: A body under one of these is not the JSON that it seems, or is vouched for byte by byte.
_SEALED = frozenset(
    {b"content-encoding", b"x-body-compressed", b"content-digest", b"repr-digest", b"digest", b"content-md5"}
)


def may_carry(method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Does SGLang take an id in the body of such a request? `target` with or without a query; header names in
    lower case."""
    if method != "POST" or target.partition(b"?")[0] not in _FORMS:
        return False
    return not any(name in _SEALED for name, _ in headers)


@dataclass(frozen=True, slots=True)
class Carried:
    """A body, and the id under which the engine will know the request: ours, or the client's own."""

    body: bytes
    rid: str


def carry(target: bytes, body: bytes, rid: str) -> Carried | None:
    """The whole `body` with `rid` in it; every other byte stays. None: send it as it is, it cannot be aborted by id.

    A client's own id stays when it cannot be the beginning of another one's; with any other there is no abort.
    """
    form = _FORMS.get(target.partition(b"?")[0])
    if form is None or not _is_braced(body):
        return None
    if len(body) > PARSED_BYTES and form.watched:
        upload = RidUpload(form, rid)
        changed = upload.feed(body, last=True)
        return Carried(changed, upload.rid) if upload.rid is not None else None
    try:
        wanted = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not wanted or not form.is_single(wanted):
        return None
    own = wanted.get(form.key)
    if own is not None:
        return Carried(body, own) if isinstance(own, str) and len(own) >= RID_CHARS else None
    end = len(body.rstrip(_SPACE)) - 1
    return Carried(b"".join((body[:end], form.member(rid), body[end:])), form.prefix + rid)


def _is_braced(body: bytes) -> bool:
    """Also False for UTF-16, UTF-32 and a byte order mark, which Python's JSON takes."""
    return body.lstrip(_SPACE)[:1] == b"{" and body.rstrip(_SPACE)[-1:] == b"}"


class RidUpload:
    """The same for a body that is sent on while it comes in. It grows by `extra` bytes in any case, so that its
    length can be announced: by the id, or by as much white space at its end when it turned out to have to go without.
    """

    def __init__(self, form: _Form, rid: str) -> None:
        self._form = form
        self._own = form.prefix + rid
        self._member = form.member(rid)
        self.extra = len(self._member)
        self.rid: str | None = None
        """The id in the body; None until the last piece, and for ever in a body that goes without."""
        self._carrying = True
        self._begun = False
        self._looked = False
        self._tail = b""
        self._before = b""
        self._held = b""

    @classmethod
    def begin(cls, target: bytes, first: bytes, rid: str) -> "RidUpload | None":
        """For the body that begins with `first`, which is then to be fed like the rest. None: no use in trying."""
        form = _FORMS.get(target.partition(b"?")[0])
        if form is None or not form.watched:
            return None
        upload = cls(form, rid)
        upload._look(first)
        upload._looked = True
        return upload if upload._begun and upload._carrying else None

    def feed(self, data: bytes, *, last: bool) -> bytes:
        """The next piece: what to send now, perhaps nothing. Nothing may be fed after the last one."""
        if self._carrying and not self._looked:
            self._look(data)
        self._looked = False
        data = self._held + data
        self._held = b""
        kept = data.rstrip(_SPACE) if self._carrying else b""
        end = len(kept) - 1 if kept.endswith(b"}") else len(data)
        if last:
            return self._finish(data, end)
        if len(data) - end > _MAX_HELD:
            self._carrying = False
        elif self._carrying:
            data, self._held = data[:end], data[end:]
            self._before = data.rstrip(_SPACE)[-1:] or self._before
        return data

    def _finish(self, data: bytes, end: int) -> bytes:
        before = data[:end].rstrip(_SPACE)[-1:] or self._before
        if not self._carrying or end == len(data) or before in (b"", b"{", b","):
            return data + b" " * self.extra
        self.rid = self._own
        return b"".join((data[:end], self._member, data[end:]))

    def _look(self, data: bytes) -> None:
        if not self._begun and (start := data.lstrip(_SPACE)[:1]):
            self._begun, self._carrying = True, start == b"{"
        for at in range(0, len(data), _WINDOW):
            probe = self._tail + data[at : at + _WINDOW]
            self._tail = probe[-_OVERLAP:]
            self._carrying = self._carrying and _is_harmless(self._form, probe)


def _is_harmless(form: _Form, probe: bytes) -> bool:
    if b'"' not in probe and b"\\" not in probe:  # the inside of an image or of a long text, at no cost
        return True
    for needle, harmless in form.watched:
        at = probe.find(needle)
        while at >= 0:
            if harmless is None or not harmless.match(probe, at):
                return False
            at = probe.find(needle, at + 1)
    return True

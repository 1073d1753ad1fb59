"""The access log: one line about each request that has ended.

It is on by default, so it must be cheap: a line is one formatting of bytes, at 1 to 2 µs. What repeats – the second,
what is asked for and by whom, who served it and how, the clients – is made once and kept, in tables of a fixed size.
What others chose (paths, ids, methods, models, names of keys, addresses) is escaped, so that nobody can begin a line
or a field of his own: in text each value is one word of ASCII, in JSON one string. No prompt, no answer, no key and no
query comes here.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Literal, TypeVar

from mypy_extensions import mypyc_attr

K = TypeVar("K", bound=Hashable)
#: An attempt that came to nothing: the instance, one word for what became of it, one line for people.
Tried = tuple[int, str, str]

logger = logging.getLogger("vastproxy.access")

#: Anything but a printable ASCII character; the backslash too, because it begins what the others become.
_NOT_PLAIN = re.compile(rb"[^!-\[\]-~]")
#: Of a longer word the log has the beginning and an ellipsis, which no escaped word can hold.
WORD_LIMIT_BYTES = 1024
#: Of the name of a model.
NAME_LIMIT_CHARS = 120
#: Entries of each table, and the longest text that is worth one: 3 MB each at the worst.
_KEPT = 4096
_KEPT_BYTES = 384

#: What begins each line, for `time.strftime`.
_TEXT_PREFIX = "%Y-%m-%d %H:%M:%S info    "
_JSON_PREFIX = '{"time":"%Y-%m-%dT%H:%M:%S%z","level":"info","logger":"vastproxy.access","request_id":"'
_TEXT = "%b%b %b → %b bytes=%d attempts=%d took=%dms ttfb=%b client=%b%b\n".encode()
_JSON = (
    b'%b%b%b%b"sent_bytes":%d,"received_bytes":%d,"attempts":%d,"queue_s":%b,"ttfb_s":%b,"took_s":%.6f%b'
    b',"client":"%b"%b}\n'
)
_NO_TOKENS = b',"tokens_in":null,"tokens_out":null'


def text_word(raw: bytes) -> bytes:
    r"""One word of printable ASCII; other bytes, blanks and backslashes as `\xNN`, nothing at all as `-`."""
    word = _NOT_PLAIN.sub(_hex, raw[:WORD_LIMIT_BYTES]) or b"-"
    return word if len(raw) <= WORD_LIMIT_BYTES else word + "…".encode()


def json_word(raw: bytes) -> bytes:
    """The inside of a JSON string of ASCII, in which each byte of `raw` is the character of that number."""
    text = raw[:WORD_LIMIT_BYTES].decode("latin-1") + ("…" if len(raw) > WORD_LIMIT_BYTES else "")
    return _inside(text)


def clipped(name: str) -> str:
    """A name that somebody made up: its beginning and an ellipsis, if it is long."""
    return name if len(name) <= NAME_LIMIT_CHARS else name[:NAME_LIMIT_CHARS] + "…"


def _inside(text: str) -> bytes:
    return json.dumps(text)[1:-1].replace("\x7f", "\\u007f").encode()


def _hex(found: "re.Match[bytes]") -> bytes:
    return b"\\x%02x" % found[0][0]


@mypyc_attr(allow_interpreted_subclasses=True)
class AccessLog:
    """Writes the access log. Call `log` once for each request, when it has ended; from one thread.

    `sink` takes whole lines, each with its line end and already with its time and level, in the form `form`. Without
    one, the lines go to the logger `vastproxy.access` at INFO, and whoever configured logging decides how they look.
    With either, nothing is made while that logger is not enabled for INFO; with a sink it is asked once a second.
    `clock` tells Unix time.

    What is told of a request: `path` without its query, where some put tokens. `key`: the name of the key that was
    sent, None where nobody is told apart. `model`: as the fleet calls it, or `clipped`. `instance_id`, `via`: who
    served it or was asked last, and over which path (`direct`, `relay`, "" where nobody was). `error`: the code of an
    error of ours. `streamed`: was the answer sent while it was made? `sent_bytes`, `received_bytes`: of the bodies
    sent to and received from the client. `queued_s`: its wait for a place; `ttfb_s`: until the first byte of the
    engine's answer, None when there was none. `tokens_in`, `tokens_out`: as the engine told, or None. `client`: its
    address. `tried`: the attempts before the last one.
    """

    def __init__(
        self,
        *,
        enabled: bool = True,
        form: Literal["text", "json"] = "text",
        sink: Callable[[bytes], object] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._enabled = enabled
        self._sink = sink
        self._json = sink is not None and form == "json"
        self._clock = clock
        self._word = json_word if self._json else text_word
        self._asked: dict[tuple[bytes, bytes, str | None, str | None], bytes] = {}
        self._served: dict[tuple[int | None, str, int, str | None, bool], bytes] = {}
        self._clients: dict[str, bytes] = {}
        # What holds for this second, [since, until): is the level low enough, and how lines begin.
        self._wanted = False
        self._prefix = b""
        self._since = self._until = 0.0

    @property
    def enabled(self) -> bool:
        """Would a line be written now?"""
        return self._enabled and logger.isEnabledFor(logging.INFO)

    def log(
        self,
        request_id: bytes,
        method: bytes,
        path: bytes,
        key: str | None,
        model: str | None,
        instance_id: int | None,
        via: str,
        status: int,
        error: str | None,
        streamed: bool,
        sent_bytes: int,
        received_bytes: int,
        attempts: int,
        queued_s: float,
        ttfb_s: float | None,
        took_s: float,
        tokens_in: int | None,
        tokens_out: int | None,
        client: str,
        tried: Sequence[Tried] = (),
    ) -> None:
        """One line about one request; what is told of it: see the class."""
        if not self._enabled:
            return
        now = self._clock()
        if not self._since <= now < self._until:
            self._begin_second(now)
        if not self._wanted:
            return
        name = request_id if request_id.isalnum() else self._word(request_id)
        asked = self._asked.get(wish := (method, path, key, model)) or _kept(
            self._asked, wish, self._tell_asked(*wish)
        )
        served = self._served.get(how := (instance_id, via, status, error, streamed)) or _kept(
            self._served, how, self._tell_served(*how)
        )
        peer = self._clients.get(client) or _kept(self._clients, client, self._word(_raw(client)))
        if self._json:
            tokens = _NO_TOKENS
            if tokens_in is not None or tokens_out is not None:
                tokens = b',"tokens_in":%b,"tokens_out":%b' % (_number(tokens_in), _number(tokens_out))
            waited = b"%.6f" % queued_s if queued_s else b"0"
            first = b"null" if ttfb_s is None else b"%.6f" % ttfb_s
            # fmt: off
            line = _JSON % (
                self._prefix, name, asked, served, sent_bytes, received_bytes, attempts, waited, first, took_s,
                tokens, peer, _tell_tried(tried) if tried else b"",
            )
            # fmt: on
        else:
            more = _more(tokens_in, tokens_out, queued_s, tried)
            line = _text(self._prefix, name, asked, served, sent_bytes, attempts, took_s, ttfb_s, peer, more)
        if self._sink is not None:
            self._sink(line)
        else:
            logger.info("%s", line[:-1].decode())

    def _begin_second(self, now: float) -> None:
        self._wanted = logger.isEnabledFor(logging.INFO)
        if self._sink is not None:
            self._since = float(int(now))
            self._until = self._since + 1.0
            form = _JSON_PREFIX if self._json else _TEXT_PREFIX
            self._prefix = time.strftime(form, time.localtime(now)).encode()

    def _tell_asked(self, method: bytes, path: bytes, key: str | None, model: str | None) -> bytes:
        verb, where = self._word(method), self._word(path)
        model = None if model is None else clipped(model)  # an engine may call its own as it likes
        if self._json:
            # fmt: off
            return b'","method":"%b","path":"%b","key":%b,"model":%b,' % (
                verb, where, _string(key), _string(model),
            )
            # fmt: on
        by = b"" if key is None else b" key=" + text_word(_raw(key))
        return b"%b %b%b%b" % (verb, where, by, b"" if model is None else b" model=" + text_word(_raw(model)))

    def _tell_served(
        self, instance_id: int | None, via: str, status: int, error: str | None, streamed: bool
    ) -> bytes:
        if self._json:
            # fmt: off
            return b'"instance_id":%b,"via":%b,"status":%d,"error":%b,"streamed":%b,' % (
                _number(instance_id), _string(via or None), status, _string(error),
                b"true" if streamed else b"false",
            )
            # fmt: on
        where = b"-" if instance_id is None else b"%d" % instance_id
        over = b" via=" + text_word(_raw(via)) if via else b""
        why = b"" if error is None else b" error=" + text_word(_raw(error))
        return b"instance=%b%b status=%d%b%b" % (where, over, status, why, b" streamed" if streamed else b"")


def _text(
    prefix: bytes,
    name: bytes,
    asked: bytes,
    served: bytes,
    sent_bytes: int,
    attempts: int,
    took_s: float,
    ttfb_s: float | None,
    peer: bytes,
    more: bytes,
) -> bytes:
    first = b"-" if ttfb_s is None else b"%dms" % int(ttfb_s * 1000 + 0.5)
    took_ms = int(took_s * 1000 + 0.5)
    return _TEXT % (prefix, name, asked, served, sent_bytes, attempts, took_ms, first, peer, more)


def _number(number: int | None) -> bytes:
    return b"null" if number is None else b"%d" % number


def _string(text: str | None) -> bytes:
    return b"null" if text is None else b'"%b"' % _inside(text)


def _raw(word: str) -> bytes:
    return word.encode("utf-8", "surrogatepass")


def _tell_tried(tried: Sequence[Tried]) -> bytes:
    rows = [{"instance_id": id, "outcome": what, "error": error} for id, what, error in tried]
    return b',"tried":' + json.dumps(rows).replace("\x7f", "\\u007f").encode()


def _more(tokens_in: int | None, tokens_out: int | None, queued_s: float, tried: Sequence[Tried]) -> bytes:
    """What people are told where there is anything to tell."""
    more = b""
    if tokens_in is not None or tokens_out is not None:
        shown = ["-" if count is None else str(count) for count in (tokens_in, tokens_out)]
        more = f" tokens={'+'.join(shown)}".encode()
    if queued_s:
        more += b" waited=%.0fms" % (queued_s * 1000)
    if tried:
        words = (text_word(_raw(f"{id}:{what}")) for id, what, _ in tried)
        more += b" tried=" + b",".join(words)
    return more


def _kept(table: dict[K, bytes], key: K, text: bytes) -> bytes:
    if len(text) <= _KEPT_BYTES:
        if len(table) >= _KEPT:
            table.clear()
        table[key] = text
    return text

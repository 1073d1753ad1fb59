"""The access log: one line about each request that has ended.

It is on by default, so it must be cheap: a line is one formatting of bytes, at 1 to 2 µs. What repeats – the second,
the paths, the clients – is made once and kept, in tables of a fixed size. What others chose (paths, ids, methods,
addresses) is escaped, so that nobody can begin a line or a field of his own: in text each value is one word of ASCII,
in JSON one string.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Literal, TypeVar

K = TypeVar("K", bound=Hashable)
#: An attempt that came to nothing: the instance, one word for what became of it, one line for people.
Tried = tuple[int, str, str]

logger = logging.getLogger("vastproxy.access")

#: Anything but a printable ASCII character; the backslash too, because it begins what the others become.
_NOT_PLAIN = re.compile(rb"[^!-\[\]-~]")
#: Of a longer word the log has the beginning and an ellipsis, which no escaped word can hold.
WORD_LIMIT_BYTES = 1024
#: Entries of each table, and the longest word that is worth one: 2 MB each at the worst.
_KEPT = 4096
_KEPT_BYTES = 128

#: What begins each line, for `time.strftime`.
_TEXT_PREFIX = "%Y-%m-%d %H:%M:%S info    "
_JSON_PREFIX = '{"time":"%Y-%m-%dT%H:%M:%S%z","level":"info","logger":"vastproxy.access","request_id":"'
_TEXT = ("%b%b %b %b → instance=%b status=%d bytes=%d attempts=%d took=%dms ttfb=%b client=%b%b\n").encode()
_JSON = (
    b'%b%b","method":"%b","path":"%b","instance_id":%b,"status":%d,"sent_bytes":%d,"received_bytes":%d,'
    b'"attempts":%d,"took_s":%.6f,"ttfb_s":%b,"client":"%b"%b}\n'
)


def text_word(raw: bytes) -> bytes:
    r"""One word of printable ASCII; other bytes, blanks and backslashes as `\xNN`, nothing at all as `-`."""
    word = _NOT_PLAIN.sub(_hex, raw[:WORD_LIMIT_BYTES]) or b"-"
    return word if len(raw) <= WORD_LIMIT_BYTES else word + "…".encode()


def json_word(raw: bytes) -> bytes:
    """The inside of a JSON string of ASCII, in which each byte of `raw` is the character of that number."""
    text = raw[:WORD_LIMIT_BYTES].decode("latin-1") + ("…" if len(raw) > WORD_LIMIT_BYTES else "")
    return json.dumps(text)[1:-1].replace("\x7f", "\\u007f").encode()


def _hex(found: "re.Match[bytes]") -> bytes:
    return b"\\x%02x" % found[0][0]


class AccessLog:
    """Writes the access log. Call `log` once for each request, when it has ended; from one thread.

    `sink` takes whole lines, each with its line end and already with its time and level, in the form `form`. Without
    one, the lines go to the logger `vastproxy.access` at INFO, and whoever configured logging decides how they look.
    With either, nothing is made while that logger is not enabled for INFO; with a sink it is asked once a second.
    `clock` tells Unix time.
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
        self._methods: dict[bytes, bytes] = {}
        self._paths: dict[bytes, bytes] = {}
        self._words: dict[str, bytes] = {}
        self._instances: dict[int | None, bytes] = {}
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
        target: bytes,
        instance_id: int | None,
        status: int,
        sent_bytes: int,
        received_bytes: int,
        attempts: int,
        took_s: float,
        ttfb_s: float | None,
        client: str,
        queued_s: float = 0.0,
        tried: Sequence[Tried] = (),
    ) -> None:
        """One line about one request. The query of `target` stays out of it: some put tokens there.

        `sent_bytes` and `received_bytes` are of the bodies sent to and received from the client; `ttfb_s` is until the
        first byte of the engine's answer, None when there was none; `client` is the client's address. `queued_s`: how
        long it waited for a place. `tried`: the attempts that came to nothing. Both are written where there is anything
        to tell.
        """
        if not self._enabled:
            return
        now = self._clock()
        if not self._since <= now < self._until:
            self._begin_second(now)
        if not self._wanted:
            return
        name = request_id if request_id.isalnum() else self._word(request_id)
        verb = self._methods.get(method) or _kept(self._methods, method, self._word(method))
        path = self._paths.get(target) or self._path(target)
        where = self._instances.get(instance_id) or self._instance(instance_id)
        peer = self._words.get(client) or self._known(client)
        more = self._more(queued_s, tried) if queued_s or tried else b""
        if self._json:
            first = b"null" if ttfb_s is None else b"%.6f" % ttfb_s
            # fmt: off
            line = _JSON % (
                self._prefix, name, verb, path, where, status, sent_bytes, received_bytes,
                attempts, took_s, first, peer, more,
            )
            # fmt: on
        else:
            first = b"-" if ttfb_s is None else b"%dms" % int(ttfb_s * 1000 + 0.5)
            took_ms = int(took_s * 1000 + 0.5)
            # fmt: off
            line = _TEXT % (
                self._prefix, name, verb, path, where, status, sent_bytes,
                attempts, took_ms, first, peer, more,
            )
            # fmt: on
        if self._sink is not None:
            self._sink(line)
        else:
            logger.info("%s", line[:-1].decode())

    def _more(self, queued_s: float, tried: Sequence[Tried]) -> bytes:
        if self._json:
            rows = [{"instance_id": id, "outcome": what, "error": error} for id, what, error in tried]
            return f',"queue_s":{queued_s:.6f},"tried":{json.dumps(rows)}'.encode()
        waited = f" waited={queued_s * 1000:.0f}ms" if queued_s else ""
        return (
            waited + (" tried=" + ",".join(f"{id}:{what}" for id, what, _ in tried) if tried else "")
        ).encode()

    def _begin_second(self, now: float) -> None:
        self._wanted = logger.isEnabledFor(logging.INFO)
        if self._sink is not None:
            self._since = float(int(now))
            self._until = self._since + 1.0
            form = _JSON_PREFIX if self._json else _TEXT_PREFIX
            self._prefix = time.strftime(form, time.localtime(now)).encode()

    def _path(self, target: bytes) -> bytes:
        raw = target.partition(b"?")[0]
        return self._paths.get(raw) or _kept(self._paths, raw, self._word(raw))

    def _known(self, word: str) -> bytes:
        return _kept(self._words, word, self._word(word.encode("utf-8", "surrogatepass")))

    def _instance(self, instance_id: int | None) -> bytes:
        nothing = b"null" if self._json else b"-"
        return _kept(self._instances, instance_id, nothing if instance_id is None else b"%d" % instance_id)


def _kept(table: dict[K, bytes], key: K, word: bytes) -> bytes:
    if len(word) <= _KEPT_BYTES:
        if len(table) >= _KEPT:
            table.clear()
        table[key] = word
    return word
